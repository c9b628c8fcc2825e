package supervise

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/firewall"
	"github.com/buildcage/buildcage/internal/cage/nameserver"
	"github.com/buildcage/buildcage/internal/cage/network"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/vertex"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// registry knows the running steps by id.
type registry struct {
	mu      sync.Mutex
	last    int
	running map[string]running
	crews   map[string]*crew // of running steps, and of those whose last records may come
}

type running struct {
	step  *step.Step
	span  string // that its vertex runs under
	since time.Time
	crew  *crew
}

// id is a new one.
func (r *registry) id() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last++
	return "s" + strconv.Itoa(r.last)
}

func (r *registry) add(s *step.Step, span string, c *crew) {
	s.ID = r.id()
	c.step = s
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		r.running, r.crews = make(map[string]running), make(map[string]*crew)
	}
	r.running[s.ID] = running{s, span, time.Now(), c}
	r.crews[s.ID] = c
}

// crew is that of a step, nil when nothing is known of it any more.
func (r *registry) crew(id string) *crew {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.crews[id]
}

// forget drops the crew of a step that has ended.
func (r *registry) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.crews, id)
}

// going are the crews of the steps that run.
func (r *registry) going() []*crew {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []*crew
	for _, one := range r.running {
		all = append(all, one.crew)
	}
	return all
}

// scope is what the running step id may do, nil for any other.
func (r *registry) scope(id string) *policy.Scope {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.running[id]; ok {
		return s.step.Rules()
	}
	return nil
}

func (r *registry) remove(id string) (running, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s, ok := r.running[id]
	delete(r.running, id)
	return s, ok
}

// stepStart registers what the runtime wrapper is about to start.
func (p *parts) stepStart(ctx context.Context, start control.Start) (string, error) {
	if p.sealed.Load() {
		return "", errors.New("the record of this cage is closed")
	}
	c := p.muster(ctx, start)
	s := &step.Step{
		Step:  event.Step{Command: start.Command, Stage: c.stage(), Secrets: start.Secrets},
		NetNS: start.NetNS, PID: start.PID,
		Scope: c.scope(),
	}
	if start.NetNS != "" {
		link, err := network.Join(start.NetNS, p.plan.IPv6)
		if err != nil {
			return "", err
		}
		s.Addrs = link.Addrs
	}
	if start.NetNS == "" || s.Scope.NetworkNone() {
		s.Network = "none"
	}
	p.registry.add(s, vertex.SpanOf(start.Traceparent), c)
	if err := p.observe(s.ID, s.Command); err != nil {
		p.registry.remove(s.ID)
		p.registry.forget(s.ID)
		return "", err
	}
	p.notices.Open(s.ID)
	p.finder.Add(s)
	p.steps.Register(s)
	c.begin()
	p.sharers(c) // who came meanwhile
	return s.ID, nil
}

func (p *parts) stepExit(id string, code int) {
	r, ok := p.registry.remove(id)
	if !ok {
		return
	}
	p.unask(r)
	p.catchUp()
	if r.step.NetNS != "" {
		if err := network.Clear(r.step.NetNS); err != nil { // the step's own processes are gone; only its traces may stay
			p.log.Debug("clearing a step's network", "step", id, "error", err)
		}
	}
	time.AfterFunc(lateGrace, func() {
		p.steps.Forget(r.step)
		p.proxy.Forget(r.step)
	})
	p.finder.Forget(r.step)
	p.notices.Close(id)
	ended := r.step.Step
	ended.Exit, ended.Took = &code, time.Since(r.since)
	p.ended(ended, r)
}

// catchGrace bounds how long the end of a step waits for the packet log.
const catchGrace = 5 * time.Millisecond

// catchUp waits until the packets that a step sent last have been recorded:
// the next step may get its addresses.
func (p *parts) catchUp() {
	if counts, err := p.firewall.Counts(); err == nil { // the end of the record counts what is missing
		p.packets.Settle(context.Background(), counts.Logged(), catchGrace)
	}
}

// packet records what the firewall logged.
func (p *parts) packet(pk firewall.Packet) {
	id := nameserver.UnknownStep
	switch pk.Prefix {
	case firewall.LogBuilder:
		id = event.BuilderStep
	case firewall.LogRefused, firewall.LogForeign:
		if s := p.steps.Lookup(pk.Src.Addr()); s != nil {
			id = s.ID
		}
	}
	if pk.Prefix == firewall.LogForeign {
		d := question(pk.Payload)
		d.Step, d.Foreign = id, pk.Dst.Addr()
		p.record(event.Record{Kind: event.KindDNS, DNS: &d})
		return
	}
	name, _ := p.pool.Name(pk.Dst.Addr())
	p.record(event.Record{Kind: event.KindDrop, Drop: &event.Drop{
		Step: id, Protocol: firewall.ProtocolName(pk.Protocol), Dest: pk.Dst, Name: name,
	}})
}

// question reads what was asked; the answer is the nameserver's business.
func question(query []byte) event.DNS {
	var m dns.Msg
	if err := m.Unpack(query); err != nil || len(m.Question) != 1 || m.Response {
		return event.DNS{Reason: event.InvalidRequest}
	}
	q := m.Question[0]
	name, legal := policy.CanonicalName(q.Name)
	if !legal {
		name = event.Escape(q.Name)
	}
	return event.DNS{Name: name, Type: dns.Type(q.Qtype).String()}
}
