package supervise

import (
	"github.com/buildcage/buildcage/internal/cage/notice"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// record takes what happened to a step's traffic: into the journal, into the
// evidence of the step, and where it was refused into the step's own log.
func (p *parts) record(r event.Record) {
	if p.ofSelfTest(r) {
		return
	}
	p.journal.Add(r)
	p.observer.See(r)
	if r.Conn == nil && r.Drop == nil && r.DNS == nil {
		return
	}
	var scope *policy.Scope
	builder := r.Conn != nil && r.Conn.Step == event.BuilderStep
	switch {
	case builder:
		scope = p.proxy.Builder.Scope
	case r.Conn != nil && r.Conn.Verdict == event.Blocked:
		scope = p.registry.scope(r.Conn.Step)
	}
	step, line := notice.Line(r, scope)
	if builder {
		if r.Conn.Protocol == string(policy.HTTP) {
			p.sources.request(r.Conn)
		}
		p.turned.add(r.Conn, line)
		return
	}
	p.notices.Post(step, line)
}
