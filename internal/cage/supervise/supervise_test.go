package supervise

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/contract"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const config = `{"version":1,"run_id":"r1","policy":{"mode":"audit","rules":{}}}` + "\n"

// rig runs a cage with phases of the test's own.
type rig struct {
	*cage
	stdin  *io.PipeWriter
	status *json.Decoder
	code   chan int
	mu     sync.Mutex
	trace  []string
}

func newRig(t *testing.T, phases func(*rig) []phase) *rig {
	t.Helper()
	in, stdin := io.Pipe()
	out, w := io.Pipe()
	r := &rig{stdin: stdin, status: json.NewDecoder(out), code: make(chan int, 1)}
	r.cage = &cage{
		in: in, out: w, log: slog.New(slog.NewTextHandler(t.Output(), nil)),
		deadline: 20 * time.Second, budget: 5 * time.Second, signals: make(chan os.Signal, 1),
		phases: func(*cage, contract.Boot) []phase { return phases(r) },
	}
	return r
}

func (r *rig) start() {
	go func() { r.code <- r.run(context.Background()) }()
}

func (r *rig) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trace = append(r.trace, fmt.Sprintf(format, args...))
}

// part is a phase that only leaves a trace.
func (r *rig) part(name string) phase {
	return phase{name, func(context.Context, context.Context) (down, error) {
		r.note("up %s", name)
		return func(context.Context) error { r.note("down %s", name); return nil }, nil
	}}
}

func (r *rig) next(t *testing.T) contract.Status {
	t.Helper()
	var s contract.Status
	if err := r.status.Decode(&s); err != nil {
		t.Fatal(err)
	}
	s.Time = time.Time{}
	return s
}

// finish takes the last status and compares it, the exit code and the trace.
func (r *rig) finish(t *testing.T, want contract.Status, code int, trace ...string) {
	t.Helper()
	got := r.next(t)
	if want.Error != "" && strings.Contains(got.Error, want.Error) {
		want.Error = got.Error
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("status (-want +got):\n%s", d)
	}
	if got := <-r.code; got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	if d := cmp.Diff(trace, r.trace); d != "" {
		t.Errorf("trace (-want +got):\n%s", d)
	}
}

func (r *rig) configure(t *testing.T, line string) {
	t.Helper()
	if _, err := io.WriteString(r.stdin, line); err != nil {
		t.Fatal(err)
	}
}

func two(r *rig) []phase { return []phase{r.part("a"), r.part("b")} }

func TestOrderlyEnds(t *testing.T) {
	for name, test := range map[string]struct {
		config string
		stay   bool
		end    func(*rig)
		code   int
	}{
		"signal":              {config, false, func(r *rig) { r.signals <- syscall.SIGTERM }, contract.ExitOK},
		"client gone":         {config, false, func(r *rig) { r.stdin.Close() }, contract.ExitOK},
		"lingers, and signal": {strings.Replace(config, `"run_id"`, `"linger":true,"run_id"`, 1), true, func(r *rig) { r.stdin.Close(); r.signals <- syscall.SIGINT }, contract.ExitStopped},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, two)
			r.stay = test.stay
			r.start()
			r.configure(t, test.config)
			if s := r.next(t); s.State != contract.StateReady {
				t.Fatalf("status %+v", s)
			}
			test.end(r)
			r.finish(t, contract.Status{State: contract.StateStopped}, test.code, "up a", "up b", "down b", "down a")
		})
	}
}

func TestLingerIgnoresEndOfInput(t *testing.T) {
	r := newRig(t, two)
	r.stay = true
	r.start()
	r.configure(t, strings.Replace(config, `"run_id"`, `"linger":true,"run_id"`, 1))
	r.next(t)
	r.stdin.Close()
	select {
	case code := <-r.code:
		t.Errorf("the cage ended with %d", code)
	case <-time.After(50 * time.Millisecond):
	}
	r.signals <- syscall.SIGTERM
	r.next(t)
	if code := <-r.code; code != contract.ExitStopped {
		t.Errorf("a stopped cage that stays ended with %d: its engine would not start it again", code)
	}
}

// daemon is a phase that runs a shell script like the real one runs buildkitd.
func (r *rig) daemon(script string) phase {
	return phase{"daemon", func(_, life context.Context) (down, error) {
		var cs children
		c, err := cs.start(r.log, "daemon", []string{"/bin/sh", "-c", script}, os.Environ())
		if err != nil {
			return nil, err
		}
		stopping := make(chan struct{})
		go func() {
			<-c.done
			select {
			case <-stopping:
			default:
				r.fail("daemon", c.err())
			}
		}()
		return func(ctx context.Context) error {
			close(stopping)
			defer func() { r.note("daemon: %v", c.err()) }()
			return c.stop(ctx, 200*time.Millisecond)
		}, nil
	}}
}

func TestChildDies(t *testing.T) {
	r := newRig(t, func(r *rig) []phase { return []phase{r.part("a"), r.daemon("echo out of luck; exit 3"), r.part("b")} })
	r.start()
	r.configure(t, config)
	if s := r.next(t); s.State == contract.StateReady {
		r.finish(t, contract.Status{State: contract.StateFailed, Error: "daemon: daemon ended with exit code 3: out of luck"}, contract.ExitFailed,
			"up a", "up b", "down b", "daemon: daemon ended with exit code 3: out of luck", "down a")
	} else if s.State != contract.StateFailed || <-r.code != contract.ExitFailed {
		t.Errorf("status %+v", s)
	}
}

func TestChildIsStopped(t *testing.T) {
	for script, want := range map[string]string{
		"trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.01; done": "daemon: daemon ended with exit code 0: bye",
		"trap '' TERM; echo stubborn; while :; do sleep 0.01; done":           "daemon: daemon ended with signal killed: stubborn",
	} {
		up := make(chan struct{})
		r := newRig(t, func(r *rig) []phase { return []phase{r.daemon(script)} })
		r.log = slog.New(&watcher{up: up})
		r.start()
		r.configure(t, config)
		r.next(t)
		<-up // the trap is set
		r.signals <- syscall.SIGTERM
		r.finish(t, contract.Status{State: contract.StateStopped}, contract.ExitOK, want)
	}
}

// watcher closes up when the first line of output is logged.
type watcher struct {
	slog.Handler
	once sync.Once
	up   chan struct{}
}

func (w *watcher) Enabled(context.Context, slog.Level) bool { return true }
func (w *watcher) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "daemon" {
		w.once.Do(func() { close(w.up) })
	}
	return nil
}

func TestBootFails(t *testing.T) {
	broken := func(r *rig) []phase {
		return []phase{r.part("a"), {"broken", func(context.Context, context.Context) (down, error) {
			return func(context.Context) error { r.note("down broken"); return nil }, &versionError{9}
		}}, r.part("never")}
	}
	slow := func(r *rig) []phase {
		return []phase{r.part("a"), {"slow", func(boot, _ context.Context) (down, error) {
			<-boot.Done()
			return nil, boot.Err()
		}}}
	}
	panics := func(r *rig) []phase {
		return []phase{r.part("a"), {"panics", func(context.Context, context.Context) (down, error) {
			return func(context.Context) error { panic("oh") }, nil
		}}, {"broken", func(context.Context, context.Context) (down, error) { return nil, errors.New("no") }}}
	}
	for name, test := range map[string]struct {
		config string
		phases func(*rig) []phase
		err    string
		hint   string
		trace  []string
	}{
		"phase":           {config, broken, "broken: reading the boot configuration: version 9", "the program and its cage image are of different versions", []string{"up a", "down broken", "down a"}},
		"deadline":        {config, slow, "the cage did not come up within", "", []string{"up a", "down a"}},
		"panic":           {config, panics, "broken: no", "", []string{"up a", "down a"}},
		"no config":       {"", two, "the cage did not come up within", "", nil},
		"bad config":      {"{\n", two, "reading the boot configuration", "", nil},
		"no run id":       {`{"version":1}` + "\n", two, "there is no run id", "", nil},
		"foreign version": {`{"version":7,"run_id":"r"}` + "\n", two, "version 7", "the program and its cage image are of different versions", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, test.phases)
			r.deadline = 100 * time.Millisecond
			r.start()
			r.configure(t, test.config)
			r.finish(t, contract.Status{State: contract.StateFailed, Error: test.err, Hint: test.hint}, contract.ExitFailed, test.trace...)
		})
	}
}

func TestClientGoneWhileBooting(t *testing.T) {
	booting := make(chan struct{})
	r := newRig(t, func(r *rig) []phase {
		return []phase{{"slow", func(boot, _ context.Context) (down, error) {
			close(booting)
			<-boot.Done()
			return nil, boot.Err()
		}}}
	})
	r.start()
	r.configure(t, config)
	<-booting
	r.stdin.Close()
	r.finish(t, contract.Status{State: contract.StateStopped}, contract.ExitOK)
}

func TestDaemonConfig(t *testing.T) {
	conflist, err := networkConfig(1450)
	if err != nil {
		t.Fatal(err)
	}
	got := daemonConfig(true, contract.Boot{MaxParallelism: 3}) + "\n" + string(conflist) + "\n"
	const file = "testdata/buildkit.golden"
	if *update {
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, []byte(got), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, []byte(got)) {
		t.Errorf("configuration (-want +got):\n%s", cmp.Diff(string(want), got))
	}
}
