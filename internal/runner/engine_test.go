package runner

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/docker/dockertest"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/image"
	"github.com/buildcage/buildcage/internal/policy"
)

// world is a real engine with a stand-in for the cage image.
type world struct {
	engine  *docker.Engine
	options Options
	tmp     string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{engine: dockertest.Engine(t)}
	var err error
	w.tmp, err = os.MkdirTemp("", "bc") // short: a socket goes in there
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", w.tmp)
	a := dockertest.NewArchive(t, w.engine.Client, dockertest.Repository())
	img := image.Image{Tag: a.Tag, IDs: []string{a.ID}, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(a.Tar)), nil
	}}
	w.options = Options{
		Engine:  w.engine,
		Image:   func() (image.Image, error) { return img, nil },
		Version: "test",
		Policy:  policy.Spec{Mode: policy.Restrict},
	}
	t.Cleanup(func() {
		if left, _ := filepath.Glob(filepath.Join(w.tmp, dirPrefix+"*")); len(left) > 0 {
			t.Errorf("left in the temporary directory: %v", left)
		}
		os.RemoveAll(w.tmp)
	})
	return w
}

// talk is a build: it sends lines to the stand-in and reads each of them back.
func talk(lines ...string) func(context.Context, Endpoint) error {
	return func(ctx context.Context, b Endpoint) error {
		conn, err := net.Dial("unix", strings.TrimPrefix(b.Addr, "unix://"))
		if err != nil {
			return err
		}
		defer conn.Close()
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		defer stop()
		echo := bufio.NewScanner(conn)
		for _, line := range lines {
			fmt.Fprintln(conn, line)
			if !echo.Scan() || echo.Text() != line {
				return fmt.Errorf("no echo of %q: %w", line, errors.Join(context.Cause(ctx), io.ErrUnexpectedEOF))
			}
		}
		// Half a close goes through, and its answer comes back.
		if err := conn.(*net.UnixConn).CloseWrite(); err != nil {
			return err
		}
		conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		if echo.Scan() || echo.Err() != nil {
			return fmt.Errorf("after half a close: %q, %w", echo.Text(), echo.Err())
		}
		return nil
	}
}

func names(records []event.Record) (names []string) {
	for _, r := range records {
		if r.DNS != nil {
			names = append(names, r.DNS.Name)
		}
	}
	return names
}

func TestRun(t *testing.T) {
	w := newWorld(t)
	file := filepath.Join(t.TempDir(), "record.jsonl")
	var progress []string
	var diagnostics lockedBuffer
	w.options.RecordFile, w.options.Diagnostics = file, &diagnostics
	w.options.Progress = func(step string, s State) { progress = append(progress, fmt.Sprintf("%s: %s", step, s)) }
	w.options.Build = func(ctx context.Context, b Endpoint) error {
		if info, err := os.Stat(b.Dir); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("the build's directory: %v, %v", info, err)
		}
		var all sync.WaitGroup // BuildKit's clients open several connections
		for i := range 3 {
			all.Go(func() {
				if err := talk(fmt.Sprintf("n%d.example.com", i))(ctx, b); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		return errors.New("the build's own error")
	}
	r := Run(t.Context(), w.options)
	if r.CageErr != nil || !r.Complete || r.Problem != "" || r.Interrupted || !r.Built || r.BuildKit != "v0.0.0-standin" {
		t.Errorf("result %+v", r)
	}
	if r.BuildErr == nil || r.BuildErr.Error() != "the build's own error" {
		t.Errorf("BuildErr is %v", r.BuildErr)
	}
	if got := len(names(r.Records)); got != 3 {
		t.Errorf("%d names in the record, want 3", got)
	}
	raw, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	if again, err := event.ReadAll(raw); err != nil || len(again) != len(r.Records) {
		t.Errorf("the record file has %d records of %d, %v", len(again), len(r.Records), err)
	}
	if info, _ := raw.Stat(); info.Mode().Perm() != 0o600 {
		t.Errorf("the record file has mode %v", info.Mode())
	}
	if last := progress[len(progress)-1]; last != "remove the private directory: done" {
		t.Errorf("the last step is %q", last)
	}
	if !strings.Contains(diagnostics.String(), "guarded") {
		t.Errorf("diagnostics are %q", diagnostics.String())
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// The record is lossless: a follower that is cut off comes back for the rest.
func TestRecordSurvivesCuts(t *testing.T) {
	w := newWorld(t)
	w.options.Build = talk("a.example.com", "cut", "b.example.com", "cut", "c.example.com")
	r := Run(t.Context(), w.options)
	if r.CageErr != nil || r.BuildErr != nil || !r.Complete {
		t.Fatalf("result %+v", r)
	}
	if diff := cmp.Diff([]string{"a.example.com", "b.example.com", "c.example.com"}, names(r.Records)); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
}

// A cage that ends under a build ends the build, and nobody calls that clean.
func TestCageEndsUnderBuild(t *testing.T) {
	tests := map[string]struct {
		end  func(t *testing.T, w *world, b Endpoint) error
		text string
	}{
		"killed": {func(t *testing.T, w *world, _ Endpoint) error {
			_, err := w.engine.Client.ContainerKill(t.Context(), w.engine.Prefix+"-0", client.ContainerKillOptions{Signal: "KILL"})
			return err
		}, "killed"},
		"removed": {func(t *testing.T, w *world, _ Endpoint) error {
			_, err := w.engine.Client.ContainerRemove(t.Context(), w.engine.Prefix+"-0", client.ContainerRemoveOptions{Force: true})
			return err
		}, "killed"},
		"by itself": {func(t *testing.T, _ *world, b Endpoint) error {
			_ = talk("die")(t.Context(), b)
			return nil
		}, "buildkitd is dead"},
		"by itself, in order": {func(t *testing.T, _ *world, b Endpoint) error {
			_ = talk("exit")(t.Context(), b)
			return nil
		}, "exit code 0"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.options.Build = func(ctx context.Context, b Endpoint) error {
				if err := talk("a.example.com")(ctx, b); err != nil {
					return err
				}
				if err := tt.end(t, w, b); err != nil {
					return err
				}
				<-ctx.Done()
				return context.Cause(ctx)
			}
			r := Run(t.Context(), w.options)
			if r.CageErr == nil || !strings.Contains(r.CageErr.Error(), tt.text) || strings.Contains(r.CageErr.Error(), "\n") {
				t.Errorf("CageErr is %v, want one line with %q", r.CageErr, tt.text)
			}
			if exit := (docker.Exit{}); !errors.As(r.BuildErr, &exit) {
				t.Errorf("BuildErr is %v, want the cage's exit as cause", r.BuildErr)
			}
			if r.Complete || r.Problem == "" || r.Interrupted {
				t.Errorf("result %+v", r)
			}
		})
	}
}

// An interruption stops the build, closes the record and leaves nothing.
func TestInterruptedBuild(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.options.Build = func(ctx context.Context, b Endpoint) error {
		if err := talk("a.example.com")(ctx, b); err != nil {
			t.Error(err)
		}
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	r := Run(ctx, w.options)
	if !r.Interrupted || !r.Complete || !errors.Is(r.BuildErr, context.Canceled) || r.CageErr != nil {
		t.Errorf("result %+v", r)
	}
}

// Ctrl-C in each step: it ends soon, and nothing is left (newWorld and
// dockertest look).
func TestInterruptedAnywhere(t *testing.T) {
	for _, s := range (&run{}).steps() {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t)
			ctx, cancel := context.WithCancel(t.Context())
			w.options.Build = func(ctx context.Context, _ Endpoint) error { return ctx.Err() }
			w.options.Progress = func(step string, state State) {
				if step == s.name && state == Started {
					cancel()
				}
			}
			r := Run(ctx, w.options)
			if !r.Interrupted {
				t.Errorf("result %+v", r)
			}
		})
	}
}

// What a killed run leaves is gone after the next one.
func TestNextRunCleansUp(t *testing.T) {
	w := newWorld(t)
	w.options.Build = func(context.Context, Endpoint) error { return nil }
	dead, err := makeDirectory(newRunID())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dead.path, "half"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	img, _ := w.options.Image()
	id, _, err := image.Ensure(t.Context(), w.engine.Client, img)
	if err != nil {
		t.Fatal(err)
	}
	left, err := w.engine.Client.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name: w.engine.Prefix + "-0", Config: containerOf(id, filepath.Base(dead.path)[len(dirPrefix):]),
	})
	if err != nil {
		t.Fatal(err)
	}
	dead.owner.Close() // as the kernel does

	if r := Run(t.Context(), w.options); r.CageErr != nil || !r.Complete {
		t.Fatalf("result %+v", r)
	}
	if _, err := w.engine.Client.ContainerInspect(t.Context(), left.ID, client.ContainerInspectOptions{}); err == nil {
		t.Error("the dead run's container is still there")
	}
	if _, err := os.Stat(dead.path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the dead run's directory: %v", err)
	}
}

// Two runs at once do not see each other.
func TestParallelRuns(t *testing.T) {
	w := newWorld(t)
	var both, all sync.WaitGroup
	both.Add(2)
	for i := range 2 {
		name := fmt.Sprintf("run%d.example.com", i)
		o := w.options
		o.Build = func(ctx context.Context, b Endpoint) error {
			both.Done()
			both.Wait()
			return talk(name)(ctx, b)
		}
		all.Go(func() {
			r := Run(t.Context(), o)
			if diff := cmp.Diff([]string{name}, names(r.Records)); diff != "" || r.CageErr != nil || !r.Complete {
				t.Errorf("result %+v\nnames (-want +got):\n%s", r, diff)
			}
		})
	}
	all.Wait()
}

func TestBootFailure(t *testing.T) {
	w := newWorld(t)
	w.options.Version = "fail"
	w.options.Build = func(context.Context, Endpoint) error { t.Error("built"); return nil }
	r := Run(t.Context(), w.options)
	var boot *docker.BootError
	if !errors.As(r.CageErr, &boot) || r.Complete || r.Problem == "" || r.Built {
		t.Errorf("result %+v", r)
	}
}

// The second Ctrl-C does not wait for a cage that will not close its record.
func TestHurry(t *testing.T) {
	w := newWorld(t)
	hurry := make(chan struct{})
	w.options.Hurry = hurry
	w.options.Build = func(ctx context.Context, b Endpoint) error {
		// Not a pause: an engine that pauses while an exec starts is stuck (20.10).
		_, err := w.engine.Client.ContainerKill(ctx, w.engine.Prefix+"-0", client.ContainerKillOptions{Signal: "STOP"})
		return err
	}
	w.options.Progress = func(step string, s State) {
		if step == "close the record" && s == Started {
			close(hurry)
		}
	}
	begin := time.Now()
	r := Run(t.Context(), w.options)
	if took := time.Since(begin); took > sealTime {
		t.Errorf("it took %s", took)
	}
	if r.BuildErr != nil || r.Complete || r.Problem == "" {
		t.Errorf("result %+v", r)
	}
}
