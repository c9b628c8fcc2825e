package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/event"
)

// script is an engine and a cage in memory, for what is about order alone.
type script struct {
	calls   []string
	failAt  string // the call that fails
	noImage int    // how often start finds no image
	config  docker.Config
	done    chan struct{}
	sealed  chan struct{}
}

var errScript = errors.New("scripted failure")

func (s *script) call(name string) error {
	s.calls = append(s.calls, name)
	if name == s.failAt {
		return errScript
	}
	return nil
}

func (s *script) backend() backend {
	s.done, s.sealed = make(chan struct{}), make(chan struct{})
	return backend{
		check: func(context.Context) (docker.Facts, error) { return docker.Facts{}, s.call("check") },
		sweep: func(context.Context, func(string) bool) error { return s.call("sweep") },
		image: func(context.Context) (string, error) { return "image", s.call("image") },
		guard: func(context.Context) ([]netip.Prefix, error) {
			return []netip.Prefix{netip.MustParsePrefix("172.17.0.1/32")}, s.call("guard")
		},
		start: func(_ context.Context, _ docker.Facts, c docker.Config) (cage, error) {
			s.config = c
			if s.noImage > 0 {
				s.noImage--
				return nil, errors.Join(s.call("start without image"), &docker.ErrImageGone{})
			}
			return s, s.call("start")
		},
	}
}

func (s *script) Version() string       { return "v1" }
func (s *script) Done() <-chan struct{} { return s.done }
func (s *script) Exit() docker.Exit     { return docker.Exit{Code: 137} }

func (s *script) Remove(ctx context.Context) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.call("remove")
}

func (s *script) Run(_ context.Context, command string, _ ...string) error {
	err := s.call(command)
	if err == nil {
		close(s.sealed)
	}
	return err
}

// Exec is only asked for the events.
func (s *script) Exec(ctx context.Context, command string, args ...string) (stream, error) {
	if err := s.call(fmt.Sprint(command, " ", strings.Join(args, " "))); err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() {
		enc := event.NewEncoder(w, time.Now)
		enc.Encode(event.Record{Kind: event.KindStart, Start: &event.Start{Version: event.Version, RunID: s.config.Boot.RunID, Mode: "restrict"}})
		<-s.sealed
		enc.Encode(event.Record{Kind: event.KindEnd, End: &event.End{Reason: "sealed"}})
		w.Close()
	}()
	return pipe{r}, nil
}

type pipe struct{ *io.PipeReader }

func (pipe) Write(p []byte) (int, error) { return len(p), nil }
func (pipe) CloseWrite() error           { return nil }
func (pipe) Wait(context.Context) error  { return nil }

func scripted(t *testing.T, s *script, build func(context.Context, Endpoint) error) *run {
	t.Helper()
	t.Setenv("TMPDIR", t.TempDir())
	t.Setenv("SSL_CERT_FILE", "")
	return newRun(Options{Version: "v1", Build: build, Guard: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}, s.backend())
}

func noBuild(context.Context, Endpoint) error { return nil }

func TestOrder(t *testing.T) {
	s := &script{}
	r := scripted(t, s, noBuild).run(t.Context())
	want := []string{"check", "sweep", "image", "guard", "start", "events --from 1", "seal", "remove"}
	if diff := cmp.Diff(want, s.calls); diff != "" {
		t.Errorf("calls (-want +got):\n%s", diff)
	}
	if !r.Complete || r.CageErr != nil || len(r.Records) != 2 {
		t.Errorf("result %+v", r)
	}
	boot := s.config.Boot
	if boot.Version != contract.BootVersion || boot.RunID != r.RunID || boot.CLI != "v1" || len(boot.Guard) != 2 {
		t.Errorf("boot %+v", boot)
	}
}

// Wherever it fails, what was made is undone, and nothing else is.
func TestUndoAfterFailure(t *testing.T) {
	tests := map[string]struct {
		undone   []string
		complete bool
	}{
		"check":           {nil, false},
		"sweep":           {nil, false},
		"image":           {nil, false},
		"guard":           {nil, false},
		"start":           {nil, false},
		"events --from 1": {[]string{"remove"}, false},
	}
	for at, tt := range tests {
		t.Run(at, func(t *testing.T) {
			s := &script{failAt: at}
			r := scripted(t, s, noBuild).run(t.Context())
			if !errors.Is(r.CageErr, errScript) || r.Complete != tt.complete || r.Problem == "" || r.Built {
				t.Errorf("result %+v", r)
			}
			if got := s.calls[slices.Index(s.calls, at)+1:]; !slices.Equal(got, tt.undone) {
				t.Errorf("undone %q, want %q", got, tt.undone)
			}
			nothingLeft(t)
		})
	}
}

func nothingLeft(t *testing.T) {
	t.Helper()
	if left, err := os.ReadDir(os.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// A panic in the build goes on after everything was undone.
func TestUndoAfterPanic(t *testing.T) {
	s := &script{}
	r := scripted(t, s, func(context.Context, Endpoint) error { panic("a bug in the build") })
	func() {
		defer func() {
			if p := fmt.Sprint(recover()); !strings.HasPrefix(p, "a bug in the build") {
				t.Errorf("panic is %q", p)
			}
		}()
		r.run(t.Context())
	}()
	if got := s.calls[len(s.calls)-2:]; !slices.Equal(got, []string{"seal", "remove"}) {
		t.Errorf("undone %q", got)
	}
	nothingLeft(t)
}

// An error while undoing does not stop the rest of it.
func TestUndoGoesOn(t *testing.T) {
	s := &script{failAt: "remove"}
	r := scripted(t, s, noBuild).run(t.Context())
	if !errors.Is(r.CageErr, errScript) || !r.Complete {
		t.Errorf("result %+v", r)
	}
	nothingLeft(t)
}

func TestImageGoneOnce(t *testing.T) {
	s := &script{noImage: 1}
	r := scripted(t, s, noBuild).run(t.Context())
	if r.CageErr != nil || !slices.Equal(s.calls[2:6], []string{"image", "guard", "start without image", "image"}) {
		t.Errorf("CageErr %v after %q", r.CageErr, s.calls)
	}
	s = &script{noImage: 2}
	gone := (*docker.ErrImageGone)(nil)
	if r := scripted(t, s, noBuild).run(t.Context()); !errors.As(r.CageErr, &gone) {
		t.Errorf("CageErr is %v", r.CageErr)
	}
}

// A record that could not be sealed is incomplete, and says so.
func TestSealFails(t *testing.T) {
	s := &script{failAt: "seal"}
	hurry := make(chan struct{})
	close(hurry)
	r := scripted(t, s, noBuild)
	r.Hurry = hurry
	result := r.run(t.Context())
	if result.Complete || !strings.Contains(result.Problem, errScript.Error()) {
		t.Errorf("result %+v", result)
	}
}

func TestInterruptedBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := &script{}
	r := scripted(t, s, noBuild).run(ctx)
	if !r.Interrupted || len(s.calls) > 0 {
		t.Errorf("result %+v after %q", r, s.calls)
	}
}
