// Package git is what stock git needs around it in a cage: transport over
// HTTPS and SSH, the one script that BuildKit calls, and a stand-in for the
// shell that git starts programs with. Git itself is compiled without any of
// them, so that there is no TLS library, no ssh and no shell in the image.
//
// All of it speaks to the network with plain sockets: the firewall brings them
// to the proxy as it does with the rest of the builder's traffic.
package git

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/buildcage/buildcage/internal/contract"
)

// Exit codes that git's own programs use.
const (
	exitFatal   = 128
	exitNoShell = 126
)

// Program runs one of the programs. The zero value has the streams of the process.
type Program struct {
	In       io.Reader
	Out, Err io.Writer
	// CA is the bundle of roots that HTTPS trusts; "" means contract.CABundle.
	CA string
	// Git is the stock git; "" means the one in contract.BinDir.
	Git string
}

// Is reports whether a program of this package has the name.
func Is(name string) bool {
	switch name {
	case contract.CommandGitHTTP, contract.CommandGitHTTPS, contract.CommandGitSubmodule, contract.CommandGitRun:
		return true
	}
	return false
}

// Main runs the program that args name first and returns its exit code.
func Main(args []string) int {
	p := Program{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, CA: contract.CABundle, Git: filepath.Join(contract.BinDir, "git")}
	return p.Run(context.Background(), filepath.Base(args[0]), args[1:])
}

// Run runs the program with that name.
func (p Program) Run(ctx context.Context, name string, args []string) int {
	var err error
	switch name {
	case contract.CommandGitHTTP, contract.CommandGitHTTPS:
		err = p.remote(ctx, args)
	case contract.CommandGitSubmodule:
		err = p.submodule(ctx, args)
	case contract.CommandGitRun:
		err = p.command(ctx, args)
	default:
		err = fmt.Errorf("no program %q", name)
	}
	if err == nil {
		return 0
	}
	var code *exitError
	if errors.As(err, &code) {
		return code.code
	}
	var none *noShellError
	fmt.Fprintf(p.Err, "fatal: %v\n", err)
	if errors.As(err, &none) {
		return exitNoShell
	}
	return exitFatal
}

// exitError is the end of a program that has said itself what is wrong.
type exitError struct{ code int }

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d", e.code) }

// git runs stock git with our streams and hands on its exit code.
func (p Program) git(ctx context.Context, env []string, args ...string) error {
	cmd := exec.CommandContext(ctx, p.Git, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = p.In, p.Out, p.Err
	cmd.Env = append(os.Environ(), env...)
	err := cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() > 0 {
		return &exitError{exit.ExitCode()}
	}
	if err != nil {
		return fmt.Errorf("running git %s: %w", args[0], err)
	}
	return nil
}
