// Package runner is one caged run: an ordered list of small steps, each of
// which registers how it is undone as soon as there is something to undo. What
// was done is undone in reverse, after success, failure, interruption and panic
// alike. The runner prints nothing; it returns a Result.
//
// The record is followed from before the build until after it, and it is closed
// (sealed) while undoing: so a build that failed or was interrupted has a
// complete record too.
package runner

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/image"
	"github.com/buildcage/buildcage/internal/policy"
)

// Options of a run. Engine, Image, Version, Policy and Build are required.
type Options struct {
	Engine  *docker.Engine
	Image   func() (image.Image, error) // nil: image.Embedded
	Version string                      // of the host program
	Policy  policy.Spec

	// Stay is a running cage to build in; nil: one for this run alone. What
	// follows up to Debug is then that of the cage.
	Stay *docker.Staying

	ExtraCA     []string       // files of PEM certificates that BuildKit shall trust
	Guard       []netip.Prefix // addresses never to dial, besides the engine's own
	Network     string         // of the engine for the cage; empty: the default bridge
	Resolvers   []netip.AddrPort
	Proxy       *contract.Proxy // in front of the network; nil: none
	Parallelism int             // of BuildKit; 0: its default
	CacheMax    int64           // bytes of BuildKit's cache; 0: its default
	Debug       bool

	// RecordFile gets the raw record lines as they come, mode 0600; empty: none.
	RecordFile string
	// Diagnostics gets the cage's standard error; nil: nobody. It must not block.
	Diagnostics io.Writer
	// Progress hears of steps as they begin and end, from one goroutine; nil: nobody.
	Progress func(step string, state State)
	// Heard gets each record as it comes, from one goroutine, and must not change
	// it or block; nil: nobody.
	Heard func(*event.Record)
	// Ask hears of what is held for want of a rule, and when that is over, from
	// one goroutine; it must not block. reply may be called later, from any. Nil:
	// nothing is held.
	Ask func(q contract.Question, reply func(contract.Answer) error)
	// Hurry, when closed (a second Ctrl-C), cuts short everything but the
	// removal of what was made; nil: never.
	Hurry <-chan struct{}

	// Build does the work. Its context ends, with the reason as cause, when the
	// caller's does and when the cage dies. It must return then.
	Build func(ctx context.Context, builder Endpoint) error
}

// Endpoint is BuildKit in the cage.
type Endpoint struct {
	Addr string // unix:///…/buildkitd.sock
	Dir  string // private, removed at the end of the run: room for the build's own files
	// BuildKit is the version that answers there.
	BuildKit string
	Engine   docker.Facts // where it runs
}

// State of a step.
type State string

const (
	Started State = "started"
	Done    State = "done"
	Failed  State = "failed"
)

// Result of a run. It is never nil.
type Result struct {
	RunID   string
	Records []event.Record
	// Complete: the record goes from its start to its end without a gap. When
	// it is false, Problem says why in one line.
	Complete bool
	Problem  string
	// Built: Build was called; BuildErr is what it returned.
	Built    bool
	BuildErr error
	// CageErr is what kept the cage from starting or from doing its work to the
	// end, or what could not be cleaned up. Many have a Hint.
	CageErr error
	// Interrupted: the caller's context ended before the run did.
	Interrupted bool
	Started     time.Time
	Duration    time.Duration
	Engine      docker.Facts
	BuildKit    string
}

// Run does one run. It returns when everything that it made is gone again,
// except the image and the state volume.
func Run(ctx context.Context, o Options) *Result {
	return newRun(o, newBackend(o)).run(ctx)
}

// step is one entry of the list.
type step struct {
	name string
	do   func(context.Context) error
}

func (r *run) steps() []step {
	return []step{
		{"reach the cage", r.reach},
		{"check the engine", r.checkEngine},
		{"make a private directory", r.makeDir},
		{"clean up after dead runs", r.sweep},
		{"load the cage image", r.ensureImage},
		{"collect certificates", r.collectCAs},
		{"start the cage", r.startCage},
		{"follow the record", r.followRecord},
		{"take questions", r.takeQuestions},
		{"open the builder", r.openBuilder},
		{"build", r.build},
	}
}

func (r *run) run(ctx context.Context) (result *Result) {
	r.result.Started = time.Now()
	defer func() { r.result.Duration = time.Since(r.result.Started) }()
	defer r.undo(ctx)
	for _, s := range r.steps() {
		if ctx.Err() != nil {
			r.result.CageErr = context.Cause(ctx)
			break
		}
		if err := r.do(ctx, s); err != nil {
			r.result.CageErr = err
			break
		}
	}
	r.result.Interrupted = ctx.Err() != nil
	return r.result
}

// do reports the step; one that panics is reported as failed on its way out.
func (r *run) do(ctx context.Context, s step) (err error) {
	r.progress(s.name, Started)
	state := Failed
	defer func() { r.progress(s.name, state) }()
	if err = s.do(ctx); err == nil {
		state = Done
	}
	return err
}

// later registers the undoing of something that now exists.
func (r *run) later(name string, do func(context.Context) error) {
	r.undos = append(r.undos, step{name, do})
}

// undo runs what was registered, last first. Nothing stops it: not the end of
// ctx, not an error, and a panic only after the rest was done.
func (r *run) undo(ctx context.Context) {
	if len(r.undos) == 0 {
		return
	}
	last := r.undos[len(r.undos)-1]
	r.undos = r.undos[:len(r.undos)-1]
	defer r.undo(ctx)
	if err := r.do(context.WithoutCancel(ctx), last); err != nil {
		r.result.CageErr = errors.Join(r.result.CageErr, err)
	}
	if ctx.Err() != nil {
		r.result.Interrupted = true
	}
}
