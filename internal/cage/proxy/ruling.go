package proxy

import (
	"fmt"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// judge decides about one request and serves it.
func (x *exchange) judge(ev *event.Conn, h *head) bool {
	r, refused := x.rule(h)
	t, d := r.target, r.decision
	ev.Protocol, ev.Name, ev.RawName = string(t.Protocol), t.Name, event.Escape(r.raw)
	if t.Protocol == "" {
		ev.Protocol = string(policy.HTTP)
	}
	if refused != nil {
		return x.refuse(ev, refused)
	}
	if !x.allows(ev, d, t) {
		return x.refuse(ev, &refusal{reason: event.Reason(d.Reason), status: 403, hint: hint(t)})
	}
	if t.Protocol == policy.HTTP && t.Name != x.origName {
		ev.Flags = append(ev.Flags, flagRerouted)
	}
	if h.declineH2C() {
		ev.Flags = append(ev.Flags, flagH2C)
	}
	if refused := h.badUpgrade(); refused != nil {
		return x.refuse(ev, refused)
	}
	return x.forward(ev, h, t)
}

// ruling is what a Host means on a connection, and whether it may be asked.
type ruling struct {
	host     string        // as sent; empty: nothing has been ruled
	scope    *policy.Scope // that decided
	target   policy.Target
	raw      string
	decision policy.Decision
}

// rule decides about a request. Requests of one connection are much alike, so
// the last ruling is good for the next one with the same Host, as long as the
// rules are the same.
func (x *exchange) rule(h *head) (ruling, *refusal) {
	scope, path := x.step.Rules(), h.target[0] == '/'
	if path && h.hosts == 1 && h.host == x.ruling.host && scope == x.ruling.scope {
		return x.ruling, nil
	}
	t, raw, refused := x.target(h)
	r := ruling{host: h.host, scope: scope, target: t, raw: raw}
	if refused != nil {
		return r, refused
	}
	r.decision = scope.Judge(t)
	if path && t.Protocol == policy.HTTP && r.decision.Allowed {
		x.ruling = r
	}
	return r, nil
}

// hint is the line that would allow a target.
func hint(t policy.Target) string {
	list, rule := policy.Suggest(t)
	if rule == "" {
		return ""
	}
	return fmt.Sprintf("to allow it add to buildcage.yaml: %s: [%q]", list, rule)
}
