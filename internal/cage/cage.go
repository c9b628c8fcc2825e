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
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/git"
	"github.com/buildcage/buildcage/internal/cage/runtime"
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
	ctx := context.Background()
	client := control.NewClient(contract.ControlSocket)
	switch args[1] {
	case contract.CommandStay:
		return supervise.Main(true)
	case contract.CommandRegister:
		return report(client.Register(ctx, os.Stdin, os.Stdout))
	case contract.CommandInventory:
		return report(client.Inventory(ctx, os.Stdout))
	}
	token, rest, err := buildFlag(args[2:])
	if err != nil {
		fmt.Fprintf(os.Stderr, "caged: error: %v\n", err)
		return usage
	}
	switch args[1] {
	case contract.CommandRuntime:
		return runtime.Wrapper{}.Main(args[2:])
	case contract.CommandDialStdio:
		socket := contract.APISocket
		if token != "" {
			socket = filepath.Join(contract.BuildsDir, token+".sock")
		}
		return report(dialStdio(socket, os.Stdin, os.Stdout))
	case contract.CommandEvents:
		from, err := fromFlag(rest)
		if err != nil {
			fmt.Fprintf(os.Stderr, "caged: error: %v\n", err)
			return usage
		}
		return report(client.Events(ctx, token, from, os.Stdout))
	case contract.CommandAsk:
		return report(client.Ask(ctx, token, os.Stdin, os.Stdout))
	case contract.CommandSeal:
		return report(client.Seal(ctx, token))
	}
	fmt.Fprintf(os.Stderr, "caged: error: unknown command %q\n", args[1])
	return usage
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

func report(err error) int {
	if err != nil {
		fmt.Fprintf(os.Stderr, "caged: error: %v\n", err)
		return contract.ExitFailed
	}
	return contract.ExitOK
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

// dialStdio joins in and out to the socket until BuildKit hangs up. The end of
// in is handed on as half a close, so that what is still on its way back arrives.
func dialStdio(path string, in, out *os.File) error {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return fmt.Errorf("connecting to BuildKit: %w", err)
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("connecting to BuildKit: got a %T", conn)
	}
	defer socket.Close()
	for _, f := range []*os.File{in, out} {
		// Not a pipe, or the limit is lower: the smaller one works too.
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, pipeSize)
	}
	_ = socket.SetReadBuffer(pipeSize)
	_ = socket.SetWriteBuffer(pipeSize)
	go func() {
		_ = carry(socket, in) // an error shows in the other direction
		_ = socket.CloseWrite()
	}()
	if err := carry(out, socket); err != nil {
		return fmt.Errorf("copying from BuildKit: %w", err)
	}
	// BuildKit has hung up: nobody reads what in may still bring.
	if err := out.Close(); err != nil {
		return fmt.Errorf("copying from BuildKit: %w", err)
	}
	return nil
}
