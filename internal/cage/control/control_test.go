package control_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/cage/control"
)

type ended struct {
	ID   string
	Code int
}

func serve(t *testing.T, s *control.Server) *control.Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "dir", "control.sock")
	l, err := control.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		if fi, err := os.Stat(file); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: %v, %v, want mode %v", file, fi.Mode(), err, want)
		}
	}
	var complaints bytes.Buffer
	s.Log = slog.New(slog.NewTextHandler(&complaints, nil))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serving: %v", err)
		}
		if complaints.Len() > 0 {
			t.Errorf("the server complained:\n%s", &complaints)
		}
	})
	return control.NewClient(path)
}

func TestStep(t *testing.T) {
	starts, ends := make(chan control.Start, 1), make(chan ended, 1)
	c := serve(t, &control.Server{
		StepStart: func(_ context.Context, s control.Start) (string, error) {
			if s.Command == "no" {
				return "", errors.New("not this one")
			}
			starts <- s
			return "s1", nil
		},
		StepExit: func(id string, code int) { ends <- ended{id, code} },
	})
	want := control.Start{Command: "npm ci", Secrets: []string{"/run/secrets/x"}, NetNS: "/n", PID: 7}
	step, err := c.Start(t.Context(), want, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, <-starts); d != "" || step.ID != "s1" {
		t.Errorf("step %q, start (-want +got):\n%s", step.ID, d)
	}
	if len(ends) != 0 {
		t.Error("ended before it was said so")
	}
	if err := step.Exit(3); err != nil {
		t.Error(err)
	}
	if got := <-ends; got != (ended{"s1", 3}) {
		t.Errorf("end %+v", got)
	}
	if _, err := c.Start(t.Context(), control.Start{Command: "no"}, nil); err == nil || !strings.Contains(err.Error(), "not this one") {
		t.Errorf("a refusal: %v", err)
	}

	// The wrapper is killed: its connection breaks off.
	ctx, kill := context.WithCancel(t.Context())
	if _, err := c.Start(ctx, want, nil); err != nil {
		t.Fatal(err)
	}
	kill()
	if got := <-ends; got != (ended{"s1", control.Killed}) {
		t.Errorf("end of a killed wrapper %+v", got)
	}
}

// What a step is told arrives while it runs, the rest before its end, and a
// reader that does not read holds nothing up.
func TestStepLines(t *testing.T) {
	lines := make(chan string, 4)
	c := serve(t, &control.Server{
		StepStart: func(context.Context, control.Start) (string, error) { return "s1", nil },
		StepLines: func(string) <-chan string { return lines },
		StepExit:  func(string, int) { lines <- "last"; close(lines) },
	})
	said := make(chan string, 4)
	step, err := c.Start(t.Context(), control.Start{}, func(line string) { said <- line })
	if err != nil {
		t.Fatal(err)
	}
	lines <- "first"
	if got := <-said; got != "first" {
		t.Errorf("told %q", got)
	}
	if err := step.Exit(0); err != nil {
		t.Error(err)
	}
	if len(said) != 1 || <-said != "last" {
		t.Error("the last line was not told before the end")
	}

	lines = make(chan string, 4)
	stuck := make(chan struct{})
	defer close(stuck)
	step, err = c.Start(t.Context(), control.Start{}, func(string) { <-stuck })
	if err != nil {
		t.Fatal(err)
	}
	lines <- "first"
	if err := step.Exit(0); err != nil {
		t.Errorf("the end of a step whose log nobody reads: %v", err)
	}
}

func TestEventsAndSeal(t *testing.T) {
	broken := false
	sealed := make(chan struct{})
	c := serve(t, &control.Server{
		Follow: func(_ context.Context, _ string, from uint64, w io.Writer) error {
			if from != 7 {
				t.Errorf("from %d", from)
			}
			io.WriteString(w, "one\n")
			<-sealed
			if broken {
				return errors.New("broken")
			}
			_, err := io.WriteString(w, "end\n")
			return err
		},
		Seal: func(context.Context, string) error { close(sealed); return nil },
	})
	r, w := io.Pipe()
	failed := make(chan error, 1)
	go func() { failed <- c.Events(t.Context(), "", 7, w); w.Close() }()
	first := make([]byte, 4)
	if _, err := io.ReadFull(r, first); err != nil || string(first) != "one\n" {
		t.Fatalf("first record %q, %v: records must not wait for each other", first, err)
	}
	if err := c.Seal(t.Context(), ""); err != nil {
		t.Error(err)
	}
	rest, err := io.ReadAll(r)
	if string(rest) != "end\n" || err != nil || <-failed != nil {
		t.Errorf("rest %q, %v", rest, err)
	}
	broken = true
	if err := c.Events(t.Context(), "", 7, new(bytes.Buffer)); err == nil {
		t.Error("a broken record looked complete")
	}
}
