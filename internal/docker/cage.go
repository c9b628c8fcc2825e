package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
)

const (
	// MaxSlots is how many cages may run side by side on one engine.
	MaxSlots = 64
	// DefaultBootTimeout is far above what a boot takes: half a second, under an
	// emulated processor a minute.
	DefaultBootTimeout = 2 * time.Minute
	// requestTimeout bounds one short request that must not be cut off by
	// the caller's context.
	requestTimeout = 30 * time.Second
)

// Config of a cage.
type Config struct {
	Image       string // id, never a tag: a tag can be moved
	Boot        contract.Boot
	Network     string        // empty: the engine's default bridge
	Diagnostics io.Writer     // gets caged's standard error; nil: nobody
	BootTimeout time.Duration // 0: DefaultBootTimeout
}

// Cage is a running cage. It holds the client's end of the container's
// standard input: when this process dies, the cage sees the end of it and
// stops by itself.
type Cage struct {
	ID       string
	Name     string
	Slot     int
	BuildKit string // version, from the ready status

	engine  *Engine
	attach  *attachment
	session session
	done    chan struct{}
	exit    Exit
	cancel  context.CancelFunc
	remove  sync.Once
	gone    error // the result of remove
}

// Start claims the lowest free slot, starts a cage there and waits until it is
// ready. Nothing is left behind when it fails.
func (e *Engine) Start(ctx context.Context, facts Facts, c Config) (_ *Cage, err error) {
	cage, err := e.claim(ctx, facts, c)
	if err != nil {
		return nil, err
	}
	c.Boot.CacheMax = cacheOf(c.Boot.CacheMax, cage.Slot)
	failed := true
	defer func() {
		if failed { // also in a panic
			err = errors.Join(err, cage.Remove(context.WithoutCancel(ctx)))
		}
	}()
	if err := cage.boot(ctx, c); err != nil {
		return nil, err
	}
	failed = false
	return cage, nil
}

// leastCache is what each slot may keep at least, if all of them may keep more.
const leastCache = 1_000_000_000

// cacheOf is what the cache of a slot may hold: all for the first one, for each
// further one half of what the one before has. Builds that run side by side now
// and then don't multiply what the engine keeps.
func cacheOf(most int64, slot int) int64 {
	for ; slot > 0 && most/2 >= leastCache; slot-- {
		most /= 2
	}
	return most
}

// claim creates the container. Its name is the slot, and the engine gives a
// name only once, so a slot has one owner. The request is not cut off when ctx
// ends: the engine would create the container all the same, for nobody.
func (e *Engine) claim(ctx context.Context, facts Facts, c Config) (*Cage, error) {
	for slot := range MaxSlots {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		options := e.spec(c, facts, slot)
		short, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
		created, err := e.Client.ContainerCreate(short, options)
		cancel()
		switch {
		case err == nil:
			return &Cage{ID: created.ID, Name: options.Name, Slot: slot, engine: e, done: make(chan struct{})}, nil
		case errdefs.IsConflict(err):
			continue
		case errdefs.IsNotFound(err):
			return nil, &ErrImageGone{Err: err}
		default:
			return nil, Classify("creating the cage container", err)
		}
	}
	return nil, &Error{Kind: SlotsTaken,
		Text: fmt.Sprintf("all %d slots are taken by other cages", MaxSlots),
		Tip:  fmt.Sprintf("wait for a build to end; docker ps -a --filter label=%s shows them", contract.Label)}
}

// ErrImageGone means that the cage image vanished between Ensure and Start.
type ErrImageGone struct{ Err error }

func (e *ErrImageGone) Error() string { return "the cage image is gone from the engine" }
func (e *ErrImageGone) Unwrap() error { return e.Err }

// boot attaches, starts the container, hands in the configuration and waits
// for the cage's word that it is ready.
func (c *Cage) boot(ctx context.Context, config Config) error {
	limit := config.BootTimeout
	if limit == 0 {
		limit = DefaultBootTimeout
	}
	boot, cancel := context.WithTimeoutCause(ctx, limit, &slowBoot{limit})
	defer cancel()
	api := c.engine.Client

	stream, err := api.ContainerAttach(boot, c.ID, client.ContainerAttachOptions{
		Stream: true, Stdin: !config.Boot.Linger, Stdout: true, Stderr: true,
	})
	if err != nil {
		return fmt.Errorf("attaching to the cage: %w", err)
	}
	starting := c.Prepare // in the shadow of BuildKit's own start
	if config.Boot.Linger {
		starting = func() {} // we leave
	}
	c.attach = newAttachment(stream.HijackedResponse, config.Diagnostics, starting)
	// Registered before the start, so that no exit is missed.
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.cancel = stop
	go c.watch(api.ContainerWait(life, c.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit}))

	if _, err := api.ContainerStart(boot, c.ID, client.ContainerStartOptions{}); err != nil {
		if boot.Err() != nil {
			return c.bootError(context.Cause(boot))
		}
		return startError(config, err)
	}
	status, err := c.attach.handshake(boot, config.Boot, c.done)
	if err != nil {
		return c.bootError(err)
	}
	c.BuildKit = status.BuildKit
	return nil
}

func startError(config Config, err error) error {
	if errdefs.IsNotFound(err) && config.Network != "" {
		return &Error{Kind: NoNetwork, Err: err,
			Text: fmt.Sprintf("the engine has no network %q", config.Network),
			Tip:  "docker network ls lists them"}
	}
	classified := Classify("starting the cage container", err)
	if IsKind(classified, Unspecified) {
		return &Error{Kind: Refused, Err: err, Text: "the engine refused to start the cage",
			Tip: "a cage needs the capabilities SYS_ADMIN, NET_ADMIN and SYS_PTRACE and a seccomp profile of its own"}
	}
	return classified
}

// Remove ends the cage and waits until the engine has forgotten the container.
// The state volume stays. It is safe to call at any time and more than once.
func (c *Cage) Remove(ctx context.Context) error {
	c.remove.Do(func() {
		short, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		c.gone = c.engine.removeContainer(short, c.ID)
		c.hangUp()
		if c.attach != nil {
			c.attach.close()
		}
		if c.cancel != nil {
			c.cancel()
		}
	})
	return c.gone
}

// removeContainer also serves containers that are just going by themselves.
func (e *Engine) removeContainer(ctx context.Context, id string) error {
	_, err := e.Client.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true})
	switch {
	case err == nil, errdefs.IsNotFound(err):
		return nil
	case !errdefs.IsConflict(err):
		return fmt.Errorf("removing container %s: %w", id, err)
	}
	wait := e.Client.ContainerWait(ctx, id, client.ContainerWaitOptions{Condition: container.WaitConditionRemoved})
	select {
	case <-wait.Result:
		return nil
	case err := <-wait.Error:
		if errdefs.IsNotFound(err) {
			return nil
		}
		return fmt.Errorf("waiting for container %s to go: %w", id, err)
	}
}
