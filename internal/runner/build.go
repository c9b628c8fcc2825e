package runner

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// stopTime is how long a build may take to return once its context ended.
const stopTime = 20 * time.Second

// build runs the caller's Build. The end of the cage ends its context. Its
// error is the build's, not the run's; a panic of it goes on in here, so that
// it unwinds through the undoing.
func (r *run) build(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	type outcome struct {
		err   error
		panic any
	}
	returned := make(chan outcome, 1)
	r.result.Built = true
	go func() {
		var out outcome
		defer func() {
			if p := recover(); p != nil {
				out.panic = fmt.Sprintf("%v\n\n%s", p, debug.Stack())
			}
			returned <- out
		}()
		out.err = r.Build(ctx, r.builder)
	}()
	died := r.watch(ctx, cancel)
	told := ctx.Done()
	var late <-chan time.Time
	for {
		select {
		case out := <-returned:
			if out.panic != nil {
				panic(out.panic) //nolint:forbidigo // the build's own panic goes on, through the undoing
			}
			r.result.BuildErr = out.err
			cancel(nil)
			return <-died
		case <-told:
			told, late = nil, time.After(stopTime)
		case <-late:
			r.result.BuildErr = errStuck
			return <-died
		}
	}
}

var errStuck = errors.New("the build did not stop when it was told to")

// watch cancels the build when the cage or the following of its record ends
// early, and yields the reason, or nil when the build's context ended first.
func (r *run) watch(ctx context.Context, cancel context.CancelCauseFunc) <-chan error {
	result := make(chan error, 1)
	go func() {
		var err error
		select {
		case <-ctx.Done():
		case <-r.cage.Done():
			err = r.cage.Exit()
			cancel(err)
		case <-r.record.done:
			if err = r.record.early(); err == nil {
				err = &EarlyEndError{sealed} // by somebody else
			}
			select { // the cage's own word is the better cause, if it is out
			case <-r.cage.Done():
				err = r.cage.Exit()
			default:
			}
			cancel(err)
			err = r.better(err)
		}
		result <- err
	}()
	return result
}

// downTime is how long a cage may take from the end of its record to its exit.
const downTime = 10 * time.Second

// better waits for what the cage itself says about its end: a cage that fails
// closes its record first.
func (r *run) better(err error) error {
	select {
	case <-r.cage.Done():
		return r.cage.Exit()
	case <-time.After(downTime):
		return err
	}
}

// EarlyEndError is a record that the cage closed before it was asked to.
type EarlyEndError struct{ Reason string }

func (e *EarlyEndError) Error() string {
	return fmt.Sprintf("the cage closed its record early: %s", e.Reason)
}
