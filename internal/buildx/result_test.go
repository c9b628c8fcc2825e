package buildx

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/docker/buildx/util/cobrautil"
	"github.com/docker/cli/cli"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestExit(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
		more bool
	}{
		{nil, 0, false},
		{errors.New("no"), 1, true},
		{fmt.Errorf("x: %w", cli.StatusError{StatusCode: 7}), 7, true},
		{cli.StatusError{}, 1, true},
		{cobrautil.ExitCodeError(3), 3, false},
		{fmt.Errorf("x: %w", context.Canceled), 130, true},
		{status.Error(codes.Internal, "x"), 100, true},
		{status.Error(codes.ResourceExhausted, "x"), 102, true},
		{status.Error(codes.Canceled, "x"), 130, true},
		{status.Error(codes.Unknown, "x"), 1, true},
	} {
		if got := Exit(tc.err); got != tc.want {
			t.Errorf("%v: exit %d, want %d", tc.err, got, tc.want)
		}
		if got := Print(new(bytes.Buffer), tc.err); got != tc.more {
			t.Errorf("%v: more = %v, want %v", tc.err, got, tc.more)
		}
	}
}
