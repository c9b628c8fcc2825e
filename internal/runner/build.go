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
				panic(out.panic)
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
		case <-r.record.done:
			if err = r.record.failure(); err == nil {
				err = errEarlyEnd
			}
			// The record also ends when the cage does; that is the better reason.
			select {
			case <-r.cage.Done():
				err = r.cage.Exit()
			case <-time.After(time.Second):
			}
		}
		cancel(err)
		result <- err
	}()
	return result
}

var errEarlyEnd = errors.New("the cage closed its record before the build was done")
