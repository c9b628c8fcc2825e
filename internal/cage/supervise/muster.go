package supervise

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/evidence"
	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/cage/vertex"
	"github.com/buildcage/buildcage/internal/policy"
)

// muster finds out for whom a step is about to run. The trace that BuildKit
// gives it is that of the build which brought the step up first; who else has
// the same vertex shares it. Without a trace that is known, everybody is a
// member who may be.
func (p *parts) muster(ctx context.Context, start control.Start) *crew {
	c := &crew{start: start, digests: make(map[string]bool)}
	all := p.tenants.All()
	first := all
	if owner := p.tenants.ByTrace(vertex.TraceOf(start.Traceparent)); owner != nil {
		first = []*tenant.Tenant{owner}
	} else if len(all) > 1 {
		first = p.suspects(all, start.Command)
	}
	for _, t := range first {
		c.members = append(c.members, newMember(t, p.who(ctx, start, t, len(all) > 1)))
	}
	for _, t := range first {
		for _, v := range most(p.pending(t), start.Command) {
			c.digests[v.Digest] = true
		}
	}
	if len(all) == 1 {
		return c
	}
	if c.loose = len(c.digests) == 0; c.loose {
		for _, v := range p.vertices.table.Pending() {
			if c.may(v) && c.has(p.tenants.Of(v.Build)) {
				c.digests[v.Digest] = true
			}
		}
	}
	for _, v := range p.vertices.table.Pending() {
		if t := p.tenants.Of(v.Build); t != nil && c.digests[v.Digest] && !c.has(t) {
			c.members = append(c.members, newMember(t, p.who(ctx, start, t, false)))
		}
	}
	return c
}

// suspects are the tenants that a step without a trace may belong to.
func (p *parts) suspects(all []*tenant.Tenant, command string) []*tenant.Tenant {
	var some []*tenant.Tenant
	for _, v := range most(p.vertices.table.Pending(), command) {
		if t := p.tenants.Of(v.Build); t != nil && !slices.Contains(some, t) {
			some = append(some, t)
		}
	}
	if some == nil {
		some = p.building(all)
	}
	return some
}

// building are the tenants with a build that goes on, all when there is none.
func (p *parts) building(all []*tenant.Tenant) []*tenant.Tenant {
	var some []*tenant.Tenant
	for _, ref := range p.vertices.table.Going() {
		if t := p.tenants.Of(ref); t != nil && !slices.Contains(some, t) {
			some = append(some, t)
		}
	}
	if some == nil {
		return all
	}
	return some
}

// sharers joins to a running step who has one of its vertices by now.
func (p *parts) sharers(c *crew) {
	for _, v := range p.vertices.table.Pending() {
		p.share(c, v)
	}
}

// heard takes what a build says of a vertex: it may be one that runs already,
// for somebody else.
func (p *parts) heard(v vertex.Vertex) {
	if !v.Completed.IsZero() || len(p.tenants.All()) == 1 {
		return
	}
	for _, c := range p.registry.going() {
		p.share(c, v)
	}
}

func (p *parts) share(c *crew, v vertex.Vertex) {
	t := p.tenants.Of(v.Build)
	if t == nil || !c.may(v) {
		return
	}
	c.mu.Lock()
	member, known := c.has(t), c.digests[v.Digest]
	if member {
		c.digests[v.Digest] = true
	}
	c.mu.Unlock()
	switch {
	case member && !known:
		for _, other := range p.vertices.table.ByDigest(v.Digest) {
			if o := p.tenants.Of(other.Build); o != nil && other.Completed.IsZero() {
				p.join(c, o)
			}
		}
	case known:
		p.join(c, t)
	}
}

func (p *parts) join(c *crew, t *tenant.Tenant) {
	who, _ := identify(c.start, p.pending(t))
	c.join(t, who, func() evidence.Run { return p.observer.Peek(c.step.ID) })
}

// pending are the vertices of a tenant that may be running.
func (p *parts) pending(t *tenant.Tenant) []vertex.Vertex {
	return slices.DeleteFunc(p.vertices.table.Pending(), func(v vertex.Vertex) bool { return p.tenants.Of(v.Build) != t })
}

// who is what a tenant's policy selects steps by, as far as it is known at the
// start of a step. What several instructions with that command do not agree on,
// or what is not heard of in time, is not known: the policy then assumes the
// worst. shared waits for the instruction in any case.
func (p *parts) who(ctx context.Context, start control.Start, t *tenant.Tenant, shared bool) policy.Step {
	asked := shared || t.Policy.Asks()
	ctx, cancel := context.WithTimeout(ctx, stageLimit)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		step, known := identify(start, p.pending(t))
		if known || !asked {
			return step
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return step
		}
	}
}

// ran remembers which steps stand in whose record, by vertex. The zero value
// is ready.
type ran struct {
	mu   sync.Mutex
	of   map[string]*outcome
	aged []string
}

type outcome struct {
	told     []*tenant.Tenant
	identity string
}

const maxRan = 4096

func (r *ran) note(digest, identity string, told []*tenant.Tenant) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.of == nil {
		r.of = make(map[string]*outcome)
	}
	if len(r.aged) >= maxRan {
		delete(r.of, r.aged[0])
		r.aged = r.aged[1:]
	}
	if r.of[digest] == nil {
		r.aged = append(r.aged, digest)
	}
	r.of[digest] = &outcome{told, identity}
}

// told reports whether a tenant's record has the step of a vertex, and the
// identity of that.
func (r *ran) told(digest string, t *tenant.Tenant) (identity string, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	o := r.of[digest]
	if o == nil {
		return "", false
	}
	return o.identity, slices.Contains(o.told, t)
}
