package battery

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// Control runs a case on the uncaged builder and returns what leaked there: the
// lines of the file (section uncaged, else restrict) that want 0 and got more,
// and what the invariants of sink and uplink forbid.
func (b *Battery) Control(ctx context.Context, c *Case, tmp string) (leaks []string, r *Run, err error) {
	if r, err = b.newRun(c, Uncaged, tmp); err != nil {
		return nil, nil, err
	}
	u, err := b.Lab.Uncaged(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := r.prepare(ctx); err != nil {
		return nil, nil, err
	}
	u.Reset()
	build, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	go func() { // no hook does anything here; nobody shall wait for one
		for b.Lab.Origin.Waiting(build) == nil && b.Lab.Origin.Release(build) == nil {
		}
	}()
	var log bytes.Buffer
	buildErr := u.Build(build, r.Dir, nil, &log)
	if err := r.collect(ctx); err != nil {
		return nil, nil, err
	}
	r.Traffic.Uplink, r.Traffic.Lost = u.Flows()
	leaks = r.Traffic.exceeded(r.Lines)
	r.Mode = Restrict
	leaks = append(leaks, r.sink(nil)...)
	for _, f := range r.Traffic.Uplink {
		if f.Proto != "tcp" && f.Port != 53 { // the resolver is the builder's own there
			leaks = append(leaks, fmt.Sprintf("%d packets of %s to %s port %d left", f.Packets, f.Proto, f.Dst, f.Port))
		}
	}
	if len(leaks) == 0 {
		r.Log("%s\n%s", r.Traffic.summary(), tail(log.String()))
		return nil, r, errors.Join(errors.New("nothing leaked without a cage"), buildErr)
	}
	return leaks, r, nil
}
