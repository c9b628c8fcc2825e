// Package supervise is caged as PID 1: it brings the cage up in a fixed order,
// watches every part of it, and takes it down in reverse. The cage lives as
// long as all of its parts do: the death of any one ends it, and the record
// says why.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
)

// Reasons for an orderly end, as the record has them.
var (
	errStopped    = errors.New("stopped")
	errClientGone = errors.New("client-gone")
)

// phase is one part of the cage. up starts it and returns how to take it down.
// What it starts lives in life; up itself must be done before boot ends. A
// part that dies calls cage.fail.
type phase struct {
	name string
	up   func(boot, life context.Context) (down func(context.Context) error, err error)
}

// cage is one run of PID 1.
type cage struct {
	in       io.Reader
	out      io.Writer
	stay     bool // the configuration must say so, too
	log      *slog.Logger
	level    *slog.LevelVar // of log; nil: it stays
	deadline time.Duration  // for booting
	budget   time.Duration  // for taking everything down
	signals  chan os.Signal

	// phases says what a cage with this configuration consists of.
	phases func(*cage, contract.Boot) []phase

	end      context.CancelCauseFunc // of life
	buildkit string                  // version, once known
}

const (
	bootDeadline   = 60 * time.Second
	teardownBudget = 8 * time.Second // the engine kills after 10
)

// Main runs the cage until it ends and returns the exit code of PID 1. A cage
// that stays has its configuration in a file: the engine may start it again.
func Main(stay bool) int { return start(phases, stay) }

// start runs a cage that consists of phases, with the process's own streams.
func start(phases func(*cage, contract.Boot) []phase, stay bool) int {
	level := new(slog.LevelVar)
	c := &cage{
		in: os.Stdin, out: os.Stdout, level: level, stay: stay,
		log:      slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})),
		deadline: bootDeadline, budget: teardownBudget,
		signals: make(chan os.Signal, 8),
		phases:  phases,
	}
	signal.Notify(c.signals, syscall.SIGTERM, syscall.SIGINT)
	if stay {
		file, err := os.Open(contract.BootFile)
		if err != nil {
			return c.last(fmt.Errorf("opening the boot configuration: %w", err))
		}
		defer file.Close()
		c.in = file
	}
	code := c.run(context.Background())
	if stay && code == contract.ExitOK { // idle: the engine does not start it again
		if err := os.Remove(contract.BootFile); err != nil {
			c.log.Warn("removing the boot configuration", "error", err)
		}
	}
	return code
}

// run is the whole life of a cage.
func (c *cage) run(ctx context.Context) int {
	life, end := context.WithCancelCause(ctx)
	c.end = end
	defer end(nil)
	go c.obey(life)

	boot, cancel := context.WithTimeoutCause(life, c.deadline, fmt.Errorf("the cage did not come up within %v", c.deadline))
	defer cancel()
	downs, err := c.boot(boot, life)
	if err == nil {
		c.say(contract.Status{State: contract.StateReady, BuildKit: c.buildkit})
		<-life.Done()
		err = context.Cause(life)
	}
	end(err)
	c.log.Info("cage is going down", "reason", err)
	if downErr := c.teardown(ctx, downs); downErr != nil && orderly(err) {
		err = downErr
	}
	return c.last(err)
}

func orderly(err error) bool {
	return errors.Is(err, errStopped) || errors.Is(err, errClientGone) || errors.Is(err, errIdle)
}

// obey turns a signal into an orderly stop.
func (c *cage) obey(life context.Context) {
	select {
	case s := <-c.signals:
		c.log.Info("signal", "signal", s.String())
		c.end(errStopped)
	case <-life.Done():
	}
}

// fail ends the cage because a part of it died. The first reason counts.
func (c *cage) fail(part string, err error) {
	if err == nil {
		err = errors.New("ended by itself")
	}
	c.end(fmt.Errorf("%s: %w", part, err))
}

// watch runs a part that must not end before life does.
func (c *cage) watch(life context.Context, part string, run func() error) {
	err := run()
	if life.Err() == nil {
		c.fail(part, err)
	}
}

type teardown struct {
	name string
	down func(context.Context) error
}

// boot reads the configuration and brings the phases up in order.
func (c *cage) boot(boot, life context.Context) (downs []teardown, err error) {
	config, err := c.configuration(boot)
	if err != nil {
		return nil, err
	}
	if config.Debug && c.level != nil {
		c.level.Set(slog.LevelDebug)
	}
	for _, p := range c.phases(c, config) {
		start := time.Now()
		down, err := p.up(boot, life)
		if down != nil {
			downs = append(downs, teardown{p.name, down})
		}
		if cause := context.Cause(boot); cause != nil {
			return downs, cause // it explains err, if there is one
		}
		if err != nil {
			return downs, fmt.Errorf("%s: %w", p.name, err)
		}
		c.log.Debug("phase is up", "phase", p.name, "took", time.Since(start))
	}
	return downs, nil
}

// teardown takes the phases down in reverse order within the budget, also
// after a failure or a panic in one of them.
func (c *cage) teardown(ctx context.Context, downs []teardown) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.budget)
	defer cancel()
	var errs []error
	for i := len(downs) - 1; i >= 0; i-- {
		d := downs[i]
		if err := safely(func() error { return d.down(ctx) }); err != nil {
			c.log.Error("taking down", "phase", d.name, "error", err)
			errs = append(errs, fmt.Errorf("taking down %s: %w", d.name, err))
		}
	}
	return errors.Join(errs...)
}

func safely(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	return f()
}

// last says how it ended and returns the exit code.
func (c *cage) last(err error) int {
	if orderly(err) {
		c.say(contract.Status{State: contract.StateStopped})
		if c.stay && errors.Is(err, errStopped) {
			return contract.ExitStopped
		}
		return contract.ExitOK
	}
	status := contract.Status{State: contract.StateFailed, Error: oneLine(err.Error())}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		status.Hint = oneLine(hinted.Hint())
	}
	c.say(status)
	return contract.ExitFailed
}
