// Package runtime is the OCI runtime that buildkitd starts: a wrapper around
// runc. It says which step is about to run before its first process exists,
// takes out of the step's configuration what a step must not have, and refuses
// configurations that would not be caged. Everything else it leaves to runc.
//
// What fails here fails closed: without a registration nothing runs.
package runtime

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	goruntime "runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/contract"
)

// Wrapper says where things are. The zero value is where they are in the cage.
type Wrapper struct {
	Runc   string // the runtime behind the wrapper
	Socket string // where caged answers
	State  string // BuildKit's state directory
}

func (w Wrapper) defaults() Wrapper {
	return Wrapper{
		cmp.Or(w.Runc, contract.BinDir+"/runc"), cmp.Or(w.Socket, contract.ControlSocket), cmp.Or(w.State, contract.StateDir),
	}
}

// failed is the exit code when the step could not be started.
const failed = 125

// Main is the wrapper with the arguments of runc. It does not return for
// commands that start nothing.
func (w Wrapper) Main(args []string) int {
	w = w.defaults()
	inv := parse(args)
	if inv.command == "exec" {
		if err := confine(inv.process); err != nil {
			return inv.fail(err)
		}
	}
	if !inv.starts() {
		err := syscall.Exec(w.Runc, append([]string{w.Runc}, args...), os.Environ())
		return inv.fail(fmt.Errorf("executing runc: %w", err))
	}
	code, err := w.start(inv)
	if err != nil {
		return inv.fail(err)
	}
	return code
}

// registerTimeout bounds the wait for caged, which answers at once.
const registerTimeout = 10 * time.Second

func (w Wrapper) start(inv invocation) (int, error) {
	request, err := prepare(inv.bundle, w.State)
	if err != nil {
		return 0, err
	}
	request.PID = os.Getpid()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	late := time.AfterFunc(registerTimeout, cancel)
	step, err := control.NewClient(w.Socket).Start(ctx, request, say)
	if err != nil {
		return 0, err
	}
	late.Stop()
	code, err := w.run(inv)
	if err != nil {
		code = failed
	}
	return code, errors.Join(err, step.Exit(code))
}

// say writes a line to the step's log: standard error is what buildkitd reads
// of the step, a terminal's far end where it has one.
func say(line string) {
	if _, err := unix.IoctlGetTermios(int(os.Stderr.Fd()), unix.TCGETS); err == nil {
		line += "\r"
	}
	_, _ = os.Stderr.WriteString(line + "\n") // the build may have hung up
}

// run runs runc as a child in the same process group, with the same files, and
// hands signals on. The child dies with the wrapper, as the wrapper does with
// buildkitd.
func (w Wrapper) run(inv invocation) (int, error) {
	goruntime.LockOSThread() // the parent-death signal comes when this thread ends
	defer goruntime.UnlockOSThread()
	cmd := exec.Command(w.Runc, inv.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	for fd := range inv.preserve {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(3+fd), "preserved"))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	signals := make(chan os.Signal, 16)
	signal.Notify(signals)
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("starting runc: %w", err)
	}
	go func() {
		for s := range signals {
			if s != syscall.SIGCHLD && s != syscall.SIGURG && s != syscall.SIGPIPE {
				_ = cmd.Process.Signal(s)
			}
		}
	}()
	var exit *exec.ExitError
	if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return 0, fmt.Errorf("waiting for runc: %w", err)
	}
	status, _ := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return status.ExitStatus(), nil
}

// fail says why on standard error, which the build shows, and in runc's log.
func (inv invocation) fail(err error) int {
	fmt.Fprintf(os.Stderr, "buildcage: error: %v\n", err)
	if inv.log != "" {
		line, _ := json.Marshal(map[string]string{
			"level": "error", "msg": "buildcage: " + err.Error(), "time": time.Now().UTC().Format(time.RFC3339),
		})
		if f, err := os.OpenFile(inv.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err == nil {
			_, _ = f.Write(append(line, '\n'))
			_ = f.Close()
		}
	}
	return failed
}

// invocation is a command line of runc, as far as the wrapper understands it.
type invocation struct {
	args     []string
	command  string
	bundle   string
	process  string // of exec
	log      string
	preserve int
}

func (inv invocation) starts() bool {
	return inv.command == "run" || inv.command == "create" || inv.command == "restore"
}

// valued are the flags of runc that take a value as the next argument.
func valued(flag string) bool {
	switch flag {
	case "root", "log", "log-format", "criu", "rootless",
		"bundle", "b", "process", "p", "pid-file", "console-socket", "pidfd-socket", "preserve-fds":
		return true
	}
	return false
}

// parse reads what go-runc writes: flags, the command, its flags, the id.
func parse(args []string) invocation {
	inv := invocation{args: args}
	for i := 0; i < len(args); i++ {
		name, value, isFlag, hasValue := cutFlag(args[i])
		switch {
		case !isFlag && inv.command == "":
			inv.command = args[i]
			continue
		case !isFlag:
			continue
		case !hasValue && valued(name) && i+1 < len(args):
			i++
			value = args[i]
		}
		switch name {
		case "bundle", "b":
			inv.bundle = value
		case "process", "p":
			inv.process = value
		case "log":
			inv.log = value
		case "preserve-fds":
			inv.preserve, _ = strconv.Atoi(value)
		}
	}
	if inv.bundle == "" {
		inv.bundle = "."
	}
	return inv
}

func cutFlag(arg string) (name, value string, isFlag, hasValue bool) {
	if len(arg) < 2 || arg[0] != '-' {
		return "", "", false, false
	}
	arg = arg[1:]
	if arg[0] == '-' {
		arg = arg[1:]
	}
	for i := range arg {
		if arg[i] == '=' {
			return arg[:i], arg[i+1:], true, true
		}
	}
	return arg, "", true, false
}
