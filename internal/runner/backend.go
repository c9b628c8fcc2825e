package runner

import (
	"context"
	"io"
	"net/netip"

	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/image"
)

// backend is the engine as the steps need it; tests put other functions here.
type backend struct {
	// reach begins to connect to a cage that is there already, until leave is
	// called; nil: there is none.
	reach func(context.Context) (leave func())
	check func(context.Context) (docker.Facts, error)
	sweep func(ctx context.Context, ownerGone func(run string) bool) error
	image func(context.Context) (id string, err error)
	guard func(context.Context) ([]netip.Prefix, error)
	start func(context.Context, docker.Facts, docker.Config) (cage, error)
}

// stream is a command of caged that runs in the cage.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
	Wait(context.Context) error
}

// cage is a running cage.
type cage interface {
	Exec(ctx context.Context, command string, args ...string) (stream, error)
	Run(ctx context.Context, command string, args ...string) error
	Remove(context.Context) error
	Done() <-chan struct{}
	Exit() docker.Exit
	Version() string // of BuildKit
}

func newBackend(o Options) backend {
	if o.Stay != nil {
		return leasing(o)
	}
	find := o.Image
	if find == nil {
		find = image.Embedded
	}
	return backend{
		check: func(ctx context.Context) (docker.Facts, error) {
			img, err := find()
			if err != nil {
				return docker.Facts{}, err
			}
			return o.Engine.Check(ctx, img.Arch)
		},
		sweep: o.Engine.Sweep,
		guard: o.Engine.Addresses,
		image: func(ctx context.Context) (string, error) {
			img, err := find()
			if err != nil {
				return "", err
			}
			return ensure(ctx, o.Engine, img)
		},
		start: func(ctx context.Context, facts docker.Facts, c docker.Config) (cage, error) {
			started, err := o.Engine.Start(ctx, facts, c)
			if err != nil {
				return nil, err
			}
			return engineCage{started}, nil
		},
	}
}

// ensure also prunes, on the one occasion when there is something to prune.
// That it could not is no reason not to build.
func ensure(ctx context.Context, e *docker.Engine, img image.Image) (string, error) {
	id, loaded, err := image.Ensure(ctx, e.Client, img)
	if err == nil && loaded {
		_ = image.Prune(ctx, e.Client, img)
	}
	return id, err
}

type engineCage struct{ *docker.Cage }

func (c engineCage) Version() string { return c.BuildKit }

func (c engineCage) Exec(ctx context.Context, command string, args ...string) (stream, error) {
	s, err := c.Cage.Exec(ctx, command, args...)
	if err != nil {
		return nil, err
	}
	return s, nil
}
