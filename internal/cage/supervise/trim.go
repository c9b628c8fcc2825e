package supervise

import (
	"context"
	"errors"
	"io"
	"time"

	buildkit "github.com/moby/buildkit/api/services/control"
)

// trimLimit is how long the cache may be made smaller while the record is being
// closed. What is left to do then, BuildKit does when the next cage starts.
const trimLimit = 10 * time.Second

// trim brings the cache of a temporary cage below its limit. BuildKit itself
// looks once a minute, and such a cage is gone by then.
func (p *parts) trim(ctx context.Context) (done <-chan struct{}) {
	over := make(chan struct{})
	if p.config.Linger || p.config.CacheMax <= 0 || p.doors.cc == nil {
		close(over)
		return over
	}
	go func() {
		defer close(over)
		ctx, cancel := context.WithTimeout(ctx, trimLimit)
		defer cancel()
		began := time.Now()
		for _, all := range []bool{false, true} { // what builds have in common, and what they are made of, last
			if err := p.prune(ctx, all); err != nil {
				p.log.Warn("making the cache smaller", "error", err)
				return
			}
		}
		p.log.Debug("the cache is within its limit", "took", time.Since(began))
	}()
	return over
}

func (p *parts) prune(ctx context.Context, all bool) error {
	stream, err := buildkit.NewControlClient(p.doors.cc).Prune(ctx, &buildkit.PruneRequest{
		All: all, MaxUsedSpace: p.config.CacheMax, ReservedSpace: p.config.CacheMax / reserved,
	})
	for err == nil {
		_, err = stream.Recv()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
