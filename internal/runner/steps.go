package runner

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
)

const (
	// sealTime is how long the cage may take to close the record and hand it
	// over; hurryTime is the same for an interrupted run.
	sealTime  = 30 * time.Second
	hurryTime = 5 * time.Second
)

// run is the state of one run.
type run struct {
	Options
	backend backend
	result  *Result
	undos   []step

	dir     *directory
	image   string
	extraCA string
	cage    cage
	record  *record
	builder Endpoint
}

func newRun(o Options, b backend) *run {
	return &run{Options: o, backend: b, result: &Result{RunID: newRunID(), Problem: "the cage never started"}}
}

func (r *run) progress(name string, s State) {
	if r.Progress != nil {
		r.Progress(name, s)
	}
}

func (r *run) reach(ctx context.Context) error {
	if r.backend.reach == nil {
		return nil
	}
	leave := r.backend.reach(ctx)
	r.later("leave the cage", func(context.Context) error {
		leave()
		return nil
	})
	return nil
}

func (r *run) checkEngine(ctx context.Context) (err error) {
	r.result.Engine, err = r.backend.check(ctx)
	return err
}

func (r *run) makeDir(context.Context) error {
	dir, err := makeDirectory(r.result.RunID)
	if err != nil {
		return err
	}
	r.dir = dir
	r.later("remove the private directory", func(context.Context) error { return dir.remove() })
	return nil
}

// sweep removes the containers of dead runs first: their directories are the
// proof that they are dead.
func (r *run) sweep(ctx context.Context) error {
	dead := deadDirectories(tempDirs())
	defer dead.close()
	if err := r.backend.sweep(ctx, dead.has); err != nil {
		return fmt.Errorf("cleaning up after dead runs: %w", err)
	}
	return dead.remove()
}

func (r *run) ensureImage(ctx context.Context) (err error) {
	r.image, err = r.backend.image(ctx)
	return err
}

func (r *run) collectCAs(context.Context) (err error) {
	if r.Stay != nil {
		return nil
	}
	r.extraCA, err = gatherCAs(r.ExtraCA)
	return err
}

// startCage tries a second time when another version of this program pruned
// the image in between.
func (r *run) startCage(ctx context.Context) error {
	guard, err := r.backend.guard(ctx)
	if err != nil {
		return err
	}
	config := r.config(guard)
	cage, err := r.backend.start(ctx, r.result.Engine, config)
	if gone := (*docker.ErrImageGone)(nil); errors.As(err, &gone) {
		if config.Image, err = r.backend.image(ctx); err != nil {
			return err
		}
		cage, err = r.backend.start(ctx, r.result.Engine, config)
	}
	if err != nil {
		return err
	}
	r.cage, r.result.BuildKit = cage, cage.Version()
	r.later("remove the cage", cage.Remove)
	r.result.Problem = "the record was never read"
	return nil
}

func (r *run) config(guard []netip.Prefix) docker.Config {
	return docker.Config{
		Image:       r.image,
		Network:     r.Network,
		Diagnostics: r.Diagnostics,
		Boot: contract.Boot{
			Version:        contract.BootVersion,
			RunID:          r.result.RunID,
			CLI:            r.Version,
			Debug:          r.Debug,
			Policy:         r.Policy,
			ExtraCA:        r.extraCA,
			Guard:          slices.Concat(guard, r.Guard),
			MaxParallelism: r.Parallelism,
			CacheMax:       r.CacheMax,
			Resolvers:      r.Resolvers,
			Proxy:          r.Proxy,
		},
	}
}

func (r *run) followRecord(ctx context.Context) error {
	rec, err := startRecord(ctx, r.cage, r.result.RunID, r.RecordFile, r.Heard)
	if err != nil {
		return err
	}
	r.record = rec
	r.later("close the record", r.closeRecord)
	return nil
}

// closeRecord seals the record and waits for its end. The verdict about the
// record stands in the result; only the death of the cage is an error here.
func (r *run) closeRecord(ctx context.Context) error {
	limit := sealTime
	if r.result.Interrupted {
		limit = hurryTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	go func() {
		select {
		case <-r.Hurry:
			cancel()
		case <-ctx.Done():
		}
	}()
	sealErr := r.cage.Run(ctx, contract.CommandSeal)
	r.result.Records, r.result.Complete, r.result.Problem = r.record.wait(ctx)
	if sealErr != nil && !r.result.Complete {
		r.result.Problem = fmt.Sprintf("%s (sealing: %v)", r.result.Problem, sealErr)
	}
	return r.ended()
}

// ended is the cage's end, when it came before that of the run and nobody has
// told of it yet. A cage that stops by itself once its record is sealed is
// a good one.
func (r *run) ended() error {
	if exit := (docker.Exit{}); errors.As(r.result.CageErr, &exit) {
		return nil
	}
	if early := (*EarlyEndError)(nil); r.result.Complete && errors.As(r.record.early(), &early) {
		return r.better(early)
	}
	select {
	case <-r.cage.Done():
		if exit := r.cage.Exit(); exit.Code != contract.ExitOK || !r.result.Complete {
			return exit
		}
	default:
	}
	return nil
}

func (r *run) openBuilder(context.Context) error {
	b, err := openBridge(r.dir.socket(), r.cage)
	if err != nil {
		return err
	}
	r.later("close the builder", func(context.Context) error { return b.close() })
	r.builder = Endpoint{Addr: "unix://" + r.dir.socket(), Dir: r.dir.path, BuildKit: r.result.BuildKit, Engine: r.result.Engine}
	return nil
}
