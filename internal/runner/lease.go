package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
)

// leasing is the backend of a run in a cage that stays: the run registers
// instead of starting anything. What it registers over takes the engine a
// while to make, so that begins before anything else.
func leasing(o Options) backend {
	var c *docker.Cage
	return backend{
		reach: func(ctx context.Context) (leave func()) {
			c = o.Engine.Open(ctx, o.Stay)
			c.Prepare()
			return c.Close
		},
		check: func(ctx context.Context) (docker.Facts, error) { return o.Engine.Check(ctx, "") },
		sweep: o.Engine.Sweep,
		guard: func(context.Context) ([]netip.Prefix, error) { return nil, nil },
		image: func(context.Context) (string, error) { return o.Stay.Image, nil },
		start: func(ctx context.Context, _ docker.Facts, config docker.Config) (cage, error) {
			return register(ctx, c, o.Stay.Name, contract.Registration{
				Version: contract.BootVersion, RunID: config.Boot.RunID, CLI: config.Boot.CLI, Policy: config.Boot.Policy,
			})
		},
	}
}

// leasedCage is a cage that stays, as a run that is registered there sees it.
type leasedCage struct {
	*docker.Cage
	token   string
	version string
	lease   *docker.Stream
	over    chan struct{} // closed when the lease has ended
	done    chan struct{} // closed when the lease or the cage has
	gone    sync.Once
}

const (
	// registerTime bounds the wait for a lease, leaveTime that for its end.
	registerTime = 30 * time.Second
	leaveTime    = 20 * time.Second
	maxLease     = 64 << 10
)

func register(ctx context.Context, c *docker.Cage, name string, r contract.Registration) (_ cage, err error) {
	ctx, cancel := context.WithTimeout(ctx, registerTime)
	defer cancel()
	failed := true
	stream, err := c.Exec(ctx, contract.CommandRegister)
	if err != nil {
		return nil, fmt.Errorf("registering with cage %q: %w", name, err)
	}
	defer func() {
		if failed {
			stream.Close()
		}
	}()
	stop := context.AfterFunc(ctx, func() { stream.Close() })
	defer stop()
	if err := json.NewEncoder(stream).Encode(r); err != nil {
		return nil, fmt.Errorf("registering with cage %q: %w", name, err)
	}
	answer := bufio.NewReader(io.LimitReader(stream, maxLease))
	line, err := answer.ReadBytes('\n')
	var lease contract.Lease
	if err == nil {
		err = json.Unmarshal(line, &lease)
	}
	switch {
	case err != nil:
		return nil, &RegisterError{name, errors.Join(err, stream.Wait(ctx))}
	case lease.Token == "":
		return nil, &RegisterError{name, errors.New(lease.Error)}
	}
	failed = false
	l := &leasedCage{Cage: c, token: lease.Token, version: lease.BuildKit, lease: stream, over: make(chan struct{}), done: make(chan struct{})}
	go l.watch()
	return l, nil
}

// RegisterError is a cage that does not take a build.
type RegisterError struct {
	Name string
	Err  error
}

func (e *RegisterError) Error() string {
	return fmt.Sprintf("cage %q does not take the build: %v", e.Name, e.Err)
}
func (e *RegisterError) Unwrap() error { return e.Err }

// Hint is what the person can do about it.
func (e *RegisterError) Hint() string {
	return "buildcage logs " + e.Name + " shows what it is doing; --cage new builds in a cage of its own"
}

func (l *leasedCage) watch() {
	go func() {
		defer close(l.over)
		_, _ = io.Copy(io.Discard, l.lease)
	}()
	select {
	case <-l.over:
	case <-l.Cage.Done():
	}
	close(l.done)
}

func (l *leasedCage) with(args []string) []string {
	return append([]string{contract.FlagBuild, l.token}, args...)
}

func (l *leasedCage) Exec(ctx context.Context, command string, args ...string) (stream, error) {
	s, err := l.Cage.Exec(ctx, command, l.with(args)...)
	if err != nil {
		return nil, err
	}
	return s, nil
}

func (l *leasedCage) Run(ctx context.Context, command string, args ...string) error {
	return l.Cage.Run(ctx, command, l.with(args)...)
}

// Remove gives the lease back. The cage stays.
func (l *leasedCage) Remove(ctx context.Context) error {
	l.gone.Do(func() {
		l.lease.CloseWrite()
		select {
		case <-l.over:
		case <-ctx.Done():
		case <-time.After(leaveTime):
		}
		l.lease.Close()
	})
	return nil
}

func (l *leasedCage) Done() <-chan struct{} { return l.done }

func (l *leasedCage) Exit() docker.Exit {
	select {
	case <-l.Cage.Done():
		return l.Cage.Exit()
	default:
		return docker.Exit{Code: -1, Text: "it ended the build's registration", Tip: "buildcage ls shows whether it is still up"}
	}
}

func (l *leasedCage) Version() string { return l.version }
