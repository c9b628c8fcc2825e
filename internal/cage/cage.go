// Package cage is the one program inside the cage container. It is many
// commands in one file: PID 1, the runtime that buildkitd starts, and what the
// host runs with exec. The name it is called by, or the first argument, says
// which.
package cage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/git"
	"github.com/buildcage/buildcage/internal/cage/runtime"
	"github.com/buildcage/buildcage/internal/cage/session"
	"github.com/buildcage/buildcage/internal/cage/supervise"
	"github.com/buildcage/buildcage/internal/contract"
)

const usage = 2

// Main runs the command that args name and returns its exit code.
func Main(args []string) int {
	if filepath.Base(args[0]) == contract.CommandRuntime {
		return runtime.Wrapper{}.Main(args[1:])
	}
	if git.Is(filepath.Base(args[0])) {
		return git.Main(args)
	}
	if len(args) == 1 {
		return supervise.Main(false)
	}
	switch args[1] {
	case contract.CommandStay:
		return supervise.Main(true)
	case contract.CommandRuntime:
		return runtime.Wrapper{}.Main(args[2:])
	}
	c := &commands{control.NewClient(contract.ControlSocket)}
	widen(os.Stdin, os.Stdout)
	if args[1] == contract.CommandSession {
		code, err := report(session.Serve(os.Stdin, os.Stdout, c.run, slog.New(slog.NewTextHandler(os.Stderr, nil))))
		return say(code, err)
	}
	return say(c.run(context.Background(), args[1:], os.Stdin, os.Stdout))
}

// commands are what the host runs in the cage.
type commands struct{ control *control.Client }

// run does one command and returns its exit code.
func (c *commands) run(ctx context.Context, args []string, in io.Reader, out io.Writer) (int, error) {
	switch args[0] {
	case contract.CommandRegister:
		return report(c.control.Register(ctx, in, out))
	case contract.CommandInventory:
		return report(c.control.Inventory(ctx, out))
	}
	token, rest, err := buildFlag(args[1:])
	if err != nil {
		return usage, err
	}
	switch args[0] {
	case contract.CommandDialStdio:
		socket := contract.APISocket
		if token != "" {
			socket = filepath.Join(contract.BuildsDir, token+".sock")
		}
		return report(dialStdio(ctx, socket, in, out))
	case contract.CommandEvents:
		from, err := fromFlag(rest)
		if err != nil {
			return usage, err
		}
		return report(c.control.Events(ctx, token, from, out))
	case contract.CommandAsk:
		return report(c.control.Ask(ctx, token, in, out))
	case contract.CommandSeal:
		return report(c.control.Seal(ctx, token))
	}
	return usage, fmt.Errorf("unknown command %q", args[0])
}

func report(err error) (int, error) {
	if err != nil {
		return contract.ExitFailed, err
	}
	return contract.ExitOK, nil
}

func say(code int, err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "caged: error: %v\n", err)
	}
	return code
}

// buildFlag takes the token of a registered build off the arguments.
func buildFlag(args []string) (token string, rest []string, err error) {
	if len(args) == 0 || args[0] != contract.FlagBuild {
		return "", args, nil
	}
	if len(args) < 2 || len(args[1]) != 32 || strings.Trim(args[1], "0123456789abcdef") != "" {
		return "", nil, errors.New(contract.FlagBuild + " needs the token of a build")
	}
	return args[1], args[2:], nil
}

func fromFlag(args []string) (uint64, error) {
	switch {
	case len(args) == 0:
		return 1, nil
	case len(args) == 2 && args[0] == "--from":
		n, err := strconv.ParseUint(args[1], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("--from %q is not a number", args[1])
		}
		return n, nil
	}
	return 0, errors.New("usage: caged events [--from N]")
}

// pipeSize is what one direction of dial-stdio may have under way. An image
// export is a stream of 16 KiB frames; moving many of them at once costs a
// quarter of the time that splicing each would.
const pipeSize = 1 << 20

// carry copies with few, large calls. The bare interfaces keep io from splicing.
func carry(to io.Writer, from io.Reader) error {
	_, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, pipeSize))
	return err
}

// widen makes pipes take as much as one direction may have under way.
func widen(pipes ...*os.File) {
	for _, f := range pipes {
		// Not a pipe, or the limit is lower: the smaller one works too.
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	}
}

// dialStdio joins in and out to the socket until BuildKit hangs up. The end of
// in is handed on as half a close, so that what is still on its way back arrives.
func dialStdio(ctx context.Context, path string, in io.Reader, out io.Writer) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("connecting to BuildKit: %w", err)
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("connecting to BuildKit: got a %T", conn)
	}
	defer socket.Close()
	defer context.AfterFunc(ctx, func() { socket.Close() })()
	_ = socket.SetReadBuffer(pipeSize)
	_ = socket.SetWriteBuffer(pipeSize)
	go func() {
		_ = carry(socket, in) // an error shows in the other direction
		_ = socket.CloseWrite()
	}()
	// When BuildKit has hung up nobody reads what in may still bring.
	if err := carry(out, socket); err != nil {
		return fmt.Errorf("copying from BuildKit: %w", err)
	}
	return nil
}
