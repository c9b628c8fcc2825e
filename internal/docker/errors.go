package docker

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
)

// Kind is what is wrong with an engine.
type Kind string

const (
	NoEngine    Kind = "no-engine"    // nothing answers
	NoAccess    Kind = "no-access"    // it is there, and refuses this user
	TooOld      Kind = "too-old"      // API older than MinAPIVersion
	WrongOS     Kind = "wrong-os"     // not a Linux engine
	WrongArch   Kind = "wrong-arch"   // the cage is built for another machine
	DiskFull    Kind = "disk-full"    // the engine has no space left
	NoNetwork   Kind = "no-network"   // the network asked for does not exist
	Refused     Kind = "refused"      // the engine will not create or start a cage
	SlotsTaken  Kind = "slots-taken"  // MaxSlots cages run at once
	NameTaken   Kind = "name-taken"   // there is such a cage
	Unspecified Kind = "engine-error" // anything else the engine said
)

// Error is a problem with the engine, in one line, with one line of advice.
type Error struct {
	Kind Kind
	Text string
	Tip  string
	Err  error // the cause; may be nil
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Text
	}
	return e.Text + ": " + oneLine(e.Err.Error())
}

func (e *Error) Unwrap() error { return e.Err }

// Hint is what the person can do about it.
func (e *Error) Hint() string { return e.Tip }

// IsKind reports whether err is an *Error of kind k.
func IsKind(err error, k Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == k
}

// unreachable turns a failed first request into the reason for it. The client
// flattens a refused socket into text, so the socket is tried once more for
// the sake of the error value.
func (e *Engine) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, fs.ErrPermission) || errdefs.IsPermissionDenied(err) || e.dialRefused(ctx) {
		return &Error{Kind: NoAccess, Err: err,
			Text: fmt.Sprintf("no permission to talk to the Docker engine at %s", e.host()),
			Tip:  "run as root or join the group that owns the socket: sudo usermod -aG docker $USER, then log in again"}
	}
	if client.IsErrConnectionFailed(err) {
		return &Error{Kind: NoEngine, Err: err,
			Text: fmt.Sprintf("no Docker engine answers at %s", e.host()),
			Tip:  "start it (systemctl start docker, or Docker Desktop), or point DOCKER_HOST or docker context use at one"}
	}
	return &Error{Kind: Unspecified, Err: err,
		Text: fmt.Sprintf("asking the Docker engine at %s", e.host()),
		Tip:  "see whether docker version works with the same settings"}
}

// failed is the error of a request, which may be the first one that is made.
func (e *Engine) failed(ctx context.Context, doing string, err error) error {
	if client.IsErrConnectionFailed(err) {
		return e.unreachable(ctx, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func (e *Engine) dialRefused(ctx context.Context) bool {
	if !strings.HasPrefix(e.host(), "unix://") {
		return false
	}
	conn, err := e.Client.Dialer()(ctx)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, fs.ErrPermission)
}

func tooOld(version string) error {
	return &Error{Kind: TooOld,
		Text: fmt.Sprintf("the Docker engine speaks API %s, a cage needs %s", version, MinAPIVersion),
		Tip:  "upgrade to Docker Engine 20.10 or newer"}
}

func wrongOS(os string) error {
	return &Error{Kind: WrongOS,
		Text: fmt.Sprintf("the Docker engine runs %s containers, a cage needs Linux", os),
		Tip:  "switch Docker Desktop to Linux containers, or use a Linux engine"}
}

func wrongArch(engine, cage string) error {
	return &Error{Kind: WrongArch,
		Text: fmt.Sprintf("the Docker engine runs on %s, this buildcage carries a cage for %s", engine, cage),
		Tip:  fmt.Sprintf("use the buildcage release for %s/%s, or an engine on %s", runtime.GOOS, engine, cage)}
}

// Classify gives an engine's answer its kind. The engine has no codes for
// these, only text.
func Classify(doing string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if strings.Contains(err.Error(), "no space left on device") {
		return &Error{Kind: DiskFull, Err: err, Text: doing + ": the engine's disk is full",
			Tip: "free some space: docker system df shows what uses it, docker system prune frees it"}
	}
	return &Error{Kind: Unspecified, Err: err, Text: doing}
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
