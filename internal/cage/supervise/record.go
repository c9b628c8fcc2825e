package supervise

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/buildcage/buildcage/internal/cage/notice"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// record takes what happened to a step's traffic: into the records of those it
// runs for, into its evidence, and where it was refused into its own log.
func (p *parts) record(r event.Record) {
	if p.ofSelfTest(r) {
		return
	}
	var id, name string
	switch {
	case r.Conn != nil:
		id, name = r.Conn.Step, r.Conn.OrigName
	case r.Drop != nil:
		id, name = r.Drop.Step, r.Drop.Name
	case r.DNS != nil:
		id, name = r.DNS.Step, r.DNS.Name
	default:
		tenant.Tell(r, p.house)
		return
	}
	if c := p.registry.crew(id); c != nil {
		c.tell(r, p.observer.See)
	} else {
		tenant.Tell(r, p.fetchers(name)...)
	}
	var scope *policy.Scope
	if r.Conn != nil && r.Conn.Verdict == event.Blocked {
		scope = p.registry.scope(id)
	}
	p.notices.Post(notice.Line(r, scope))
}

// builders are the builder's traffic as the sets of tenants that it may be
// for. The zero value is ready.
type builders struct {
	mu   sync.Mutex
	sets map[string]*step.Step
}

// builder judges the builder's own traffic to a name. A connection does not say
// which build it is for; it may do what all allow that it can be for.
func (p *parts) builder(name string) *step.Step {
	whose := p.fetchers(name)
	ids := make([]string, len(whose)) // of the cage's making: a client's could be that of two
	scopes := make([]*policy.Scope, len(whose))
	for i, t := range whose {
		ids[i], scopes[i] = t.Trace, t.Policy.For(policy.Step{Builder: true})
	}
	key := strings.Join(ids, " ")
	p.builders.mu.Lock()
	defer p.builders.mu.Unlock()
	if s := p.builders.sets[key]; s != nil {
		return s
	}
	s := &step.Step{Step: event.Step{ID: event.BuilderStep}, Builder: true, Scope: policy.Intersect(scopes...)}
	s.Record = func(r event.Record) { p.fetch(r, s.Scope, whose) }
	if p.builders.sets == nil {
		p.builders.sets = make(map[string]*step.Step)
	}
	p.builders.sets[key] = s
	return s
}

// forget returns the sets that a tenant is in. It drops those that none of who
// stay is in.
func (b *builders) forget(t *tenant.Tenant, stay []*tenant.Tenant) (sets []*step.Step) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, set := range b.sets {
		members := strings.Fields(key)
		if !slices.Contains(members, t.Trace) {
			continue
		}
		sets = append(sets, set)
		if !slices.ContainsFunc(stay, func(o *tenant.Tenant) bool { return slices.Contains(members, o.Trace) }) {
			delete(b.sets, key)
		}
	}
	return sets
}

// outlasting records what the builder has open for a tenant whose record ends:
// it keeps connections for whoever builds next. The cage's own record ends when
// there are none.
func (p *parts) outlasting(ctx context.Context, t *tenant.Tenant) {
	stay := slices.DeleteFunc(p.tenants.All(), func(o *tenant.Tenant) bool { return o == p.house || o == t })
	for _, set := range p.builders.forget(t, stay) {
		for _, r := range p.proxy.Open(ctx, set) {
			tenant.Tell(r, t)
		}
	}
}

// fetchers are the tenants that the builder may be talking to a name for: those
// that fetch from it, else all that build.
func (p *parts) fetchers(name string) []*tenant.Tenant {
	all := p.tenants.All()
	if len(all) == 1 {
		return all
	}
	var some []*tenant.Tenant
	for _, ref := range p.sources.fetching(name) {
		if t := p.tenants.Of(ref); t != nil && !slices.Contains(some, t) {
			some = append(some, t)
		}
	}
	if some == nil {
		some = p.building(all)
	}
	return some
}

// fetch records a connection of the builder.
func (p *parts) fetch(r event.Record, scope *policy.Scope, whose []*tenant.Tenant) {
	if p.ofSelfTest(r) {
		return
	}
	tenant.Tell(r, whose...)
	_, line := notice.Line(r, scope)
	if r.Conn.Protocol == string(policy.HTTP) {
		p.sources.request(r.Conn)
	}
	p.turned.add(r.Conn, line, whose)
}

// overreached records that a build has something from a host that its own
// policy keeps the builder from. It came over a connection that another build
// may have: those are kept open, and are nobody's.
func (p *parts) overreached(t *tenant.Tenant, src *event.Source) {
	scope := t.Policy.For(policy.Step{Builder: true})
	if !p.config.Linger || src.Host == "" || scope.Lenient() {
		return
	}
	ports := portsOf(src)
	for _, port := range ports {
		for _, protocol := range []policy.Protocol{policy.TLS, policy.HTTP, policy.TCP} {
			if scope.Judge(policy.Target{Protocol: protocol, Name: src.Host, Port: port}).Allowed {
				return
			}
		}
	}
	t.Journal.Add(event.Record{Kind: event.KindConn, Conn: &event.Conn{
		Step: event.BuilderStep, Name: src.Host, Port: ports[0], Protocol: string(policy.TLS), Verdict: event.Blocked, Reason: event.NotAllowed,
		Flags: []string{flagShared}, Detail: "fetched over a connection that another build may have",
	}})
}

// portsOf are the ports that a source may have come from: the ones that it
// names, else those of https, http and ssh.
func portsOf(src *event.Source) (ports []uint16) {
	for _, text := range append(strings.Fields(src.Ref), src.Hosts...) {
		_, after, _ := strings.Cut(text, src.Host+":")
		digits := after[:len(after)-len(strings.TrimLeft(after, "0123456789"))]
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil && n > 0 {
			ports = append(ports, uint16(n))
		}
	}
	if len(ports) == 0 {
		ports = []uint16{443, 80, 22}
	}
	return ports
}
