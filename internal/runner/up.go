package runner

import (
	"context"
	"errors"
	"time"

	"github.com/buildcage/buildcage/internal/docker"
)

// Raise starts a cage that stays, with the policy of the options as its own,
// and returns when it is ready. Build and RecordFile play no part.
func Raise(ctx context.Context, o Options, s docker.Stay, idle time.Duration) (*docker.Cage, error) {
	r := newRun(o, newBackend(o))
	for _, step := range []step{
		{"check the engine", r.checkEngine},
		{"load the cage image", r.ensureImage},
		{"collect certificates", r.collectCAs},
	} {
		if err := r.do(ctx, step); err != nil {
			return nil, err
		}
	}
	guard, err := r.backend.guard(ctx)
	if err != nil {
		return nil, err
	}
	config := r.config(guard)
	config.Boot.Linger, config.Boot.Idle = true, idle
	var cage *docker.Cage
	err = r.do(ctx, step{"start the cage", func(ctx context.Context) (err error) {
		cage, err = o.Engine.StartStay(ctx, r.result.Engine, config, s)
		if gone := (*docker.ErrImageGone)(nil); errors.As(err, &gone) {
			if config.Image, err = r.backend.image(ctx); err == nil {
				cage, err = o.Engine.StartStay(ctx, r.result.Engine, config, s)
			}
		}
		return err
	}})
	return cage, err
}
