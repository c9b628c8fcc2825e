package cli

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// errInterrupted is the cause of a context that a signal ended.
var errInterrupted = errors.New("interrupted")

// interrupt turns signals into the end of a run. The first asks for it, the
// second hurries it up, the third kills the program as if nobody had listened;
// then the cage notices by itself and the next run sweeps up.
type interrupt struct {
	ctx   context.Context
	hurry chan struct{}
}

// catch listens until stop is called. It also keeps a closed stdout or stderr
// from killing the process before the cage is gone: writes fail instead.
func catch(parent context.Context) (_ *interrupt, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	i := &interrupt{ctx: ctx, hurry: make(chan struct{})}
	signals := make(chan os.Signal, 4)
	signal.Ignore(syscall.SIGPIPE)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		for _, act := range []func(){
			func() { cancel(errInterrupted) },
			func() { close(i.hurry); signal.Reset() },
		} {
			select {
			case <-signals:
				act()
			case <-done:
				return
			}
		}
	}()
	var once sync.Once
	return i, func() {
		once.Do(func() {
			signal.Stop(signals)
			close(done)
			cancel(nil)
		})
	}
}
