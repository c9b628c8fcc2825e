package buildx

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/docker/buildx/util/cobrautil"
	"github.com/docker/cli/cli"
	solvererrdefs "github.com/moby/buildkit/solver/errdefs"
	"github.com/moby/buildkit/sourcepolicy/policysession"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
)

// Exit is the code that buildx itself exits with on err.
func Exit(err error) int {
	var status cli.StatusError
	var code cobrautil.ExitCodeError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return max(status.StatusCode, 1)
	case errors.As(err, &code):
		return int(code)
	case errors.Is(err, context.Canceled):
		return 130
	}
	switch grpcerrors.Code(err) {
	case codes.Internal:
		return 100
	case codes.ResourceExhausted:
		return 102
	case codes.Canceled:
		return 130
	}
	return 1
}

// Print shows what buildx shows before its last line: the messages of a source
// policy and the Dockerfile excerpts. It says whether err needs a line of its
// own; some errors carry an exit code only.
func Print(w io.Writer, err error) (more bool) {
	var code cobrautil.ExitCodeError
	if err == nil || errors.As(err, &code) {
		return false
	}
	for _, m := range policysession.DenyMessages(err) {
		if m.GetMessage() != "" {
			fmt.Fprintf(w, "Policy: %s\n", m.GetMessage())
		}
	}
	for _, s := range solvererrdefs.Sources(err) {
		_ = s.Print(w)
	}
	return true
}
