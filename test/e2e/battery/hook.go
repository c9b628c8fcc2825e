package battery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/tonistiigi/fsutil"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/test/e2e/lab"
)

// Hook is something that the harness does to a running cage, while a step of
// the case waits ("RUN probe wait"). What it returns is matched by the lines
// hook and no-hook.
type Hook func(ctx context.Context, r *Run, cage *lab.Cage, args []string) (output string, err error)

// hooks are those that a case can name.
func hooks() map[string]Hook {
	return map[string]Hook{
		"solve": solve,
		"kill":  kill,
		"exec":  execInCage,

		"privileged": privileged,
		"abstract":   abstract,
		"advertise":  advertise,
		"write":      write,
		"each":       each,
		"together":   together,
		"journal":    journal,
		"usage":      usage,
		"rezone":     rezone,
		"full":       full,
		"attack":     attackHook,
		"define":     defineHook,
		"malformed":  malformed,
		"boot":       boot,
		"inspect":    inspect,
		"restart":    again,
		"program":    program,
	}
}

// startHook runs the case's hook once a step waits for it. The returned
// function waits for its end.
func (r *Run) startHook(ctx context.Context) (end func() error) {
	if len(r.Case.Hook) == 0 {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() { done <- r.runHook(ctx) }()
	return func() error { return <-done }
}

func (r *Run) runHook(ctx context.Context) error {
	if err := r.Lab.Origin.Waiting(ctx); err != nil {
		return fmt.Errorf("no step waited for it: %w", err)
	}
	defer func() {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := r.Lab.Origin.Release(release); err != nil {
			r.Log("releasing the waiting step: %v", err)
		}
	}()
	cage, err := r.Lab.Cage(ctx, func(*lab.Cage) bool { return true })
	if err != nil {
		return err
	}
	args := make([]string, 0, len(r.Case.Hook))
	for _, a := range r.Case.Hook[1:] {
		args = append(args, r.fill(a))
	}
	r.HookOutput, err = hooks()[r.Case.Hook[0]](ctx, r, cage, args)
	return err
}

// solve builds DIR (of the context) through the cage's own front door with
// BuildKit's client, so without any of the program's checks. Further arguments:
// allow=ENTITLEMENT, attr:NAME=VALUE, frontend=NAME, policy=FILE. The output is the build's
// progress and its error.
func solve(ctx context.Context, r *Run, cage *lab.Cage, args []string) (string, error) {
	if len(args) == 0 {
		return "", errors.New("solve wants a directory")
	}
	files, err := fsutil.NewFS(filepath.Join(r.Dir, args[0]))
	if err != nil {
		return "", err
	}
	opt := client.SolveOpt{
		Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"filename": "Dockerfile", "no-cache": ""},
		LocalMounts: map[string]fsutil.FS{"context": files, "dockerfile": files},
	}
	if err := r.Lab.StepContext(&opt); err != nil {
		return "", err
	}
	for _, a := range args[1:] {
		key, value, _ := strings.Cut(a, "=")
		switch name, attr := strings.CutPrefix(key, "attr:"); {
		case attr:
			opt.FrontendAttrs[name] = value
		case key == "allow":
			opt.AllowedEntitlements = append(opt.AllowedEntitlements, value)
		case key == "frontend":
			opt.Frontend = value
		case key == "policy":
			if opt.SourcePolicy, err = r.sourcePolicy(value); err != nil {
				return "", err
			}
		default:
			return "", fmt.Errorf("unknown argument %q", a)
		}
	}
	c, err := Dial(ctx, cage)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var out bytes.Buffer
	display, err := progressui.NewDisplay(&out, progressui.PlainMode)
	if err != nil {
		return "", err
	}
	status := make(chan *client.SolveStatus)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		_, _ = display.UpdateFrom(context.WithoutCancel(ctx), status)
	}()
	_, err = c.Solve(ctx, nil, opt, status)
	<-shown
	fmt.Fprintf(&out, "solve: %v\n", err)
	return out.String(), nil
}

// Dial is BuildKit's client at the cage's front door, the way the program
// itself gets there.
func Dial(ctx context.Context, cage *lab.Cage) (*client.Client, error) {
	return client.New(ctx, "cage", client.WithContextDialer(func(context.Context, string) (net.Conn, error) {
		cmd := exec.Command("docker", "exec", "-i", cage.ID, contract.BinDir+"/caged", contract.CommandDialStdio)
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		here, there := net.Pipe()
		go pump(there, in, out, cmd)
		return here, nil
	}))
}

// pump joins a connection to a command until one of them ends.
func pump(c net.Conn, in interface {
	Write([]byte) (int, error)
	Close() error
}, out interface{ Read([]byte) (int, error) }, cmd *exec.Cmd) {
	go func() {
		copyBytes(in, c)
		in.Close()
	}()
	copyBytes(c, out)
	c.Close()
	_ = cmd.Wait() // how it ended shows in the connection
}

func copyBytes(w interface{ Write([]byte) (int, error) }, r interface{ Read([]byte) (int, error) }) {
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		if n > 0 {
			if _, err := w.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// kill sends SIGKILL to the processes in the cage whose command name is NAME,
// or, if NAME has arguments, whose command line has it;
// "cage" is the container itself.
func kill(ctx context.Context, _ *Run, cage *lab.Cage, args []string) (string, error) {
	if len(args) == 0 {
		return "", errors.New("kill wants a name")
	}
	if args[0] == "cage" {
		out, err := exec.CommandContext(ctx, "docker", "kill", cage.ID).CombinedOutput()
		return string(out), err
	}
	return killByName(cage.PID, strings.Join(args, " "))
}

// execInCage runs a command of caged in the cage, as the program does.
func execInCage(ctx context.Context, _ *Run, cage *lab.Cage, args []string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", append([]string{"exec", cage.ID}, args...)...).CombinedOutput()
	return fmt.Sprintf("%s\n%v\n", out, err), nil
}

// write copies FROM over TO, both in the build context, while the build runs.
func write(_ context.Context, r *Run, _ *lab.Cage, args []string) (string, error) {
	if len(args) != 2 {
		return "", errors.New("write wants TO FROM")
	}
	data, err := os.ReadFile(filepath.Join(r.Dir, args[1]))
	if err != nil {
		return "", err
	}
	return "rewrote " + args[0] + "\n", os.WriteFile(filepath.Join(r.Dir, args[0]), data, 0o644)
}
