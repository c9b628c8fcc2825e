package proxy

import (
	"slices"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

const (
	// flagAsked is on a connection that a person was asked about.
	flagAsked = "asked"
	// ruleAsked stands for the rule of one that the person allowed, and posAsked
	// for its place: like a flag's rule, it is for one run.
	ruleAsked = "asked"
	posAsked  = "--ask"
)

// allows puts the decision about t into the event. What no rule allows is held
// while somebody is asked; anything else that is refused is nobody's to allow.
func (c *session) allows(ev *event.Conn, d policy.Decision, t policy.Target) bool {
	decide(ev, d)
	if d.Allowed || c.Ask == nil || !c.askable(d, t) {
		return d.Allowed
	}
	ev.Process = c.opener.wait(true)
	asked, allowed := c.Ask(&c.term, c.step, t, ev)
	if asked {
		ev.Flags = append(ev.Flags, flagAsked)
	}
	if asked && allowed {
		ev.Verdict, ev.Reason, ev.Rule, ev.RulePos = event.Allowed, "", ruleAsked, posAsked
	}
	return asked && allowed
}

// askable says that nothing but a missing rule refuses t.
func (c *session) askable(d policy.Decision, t policy.Target) bool {
	if d.Expected || c.step.Rules().Judge(t).Expected || c.step.Builder || !slices.Contains([]event.Reason{event.NotAllowed, event.IPNotAllowed}, event.Reason(d.Reason)) {
		return false
	}
	if t.Protocol != policy.IP {
		return t.Name != ""
	}
	class := c.Dialer.Check(t.Addr)
	return class == policy.Public || class == policy.Private
}
