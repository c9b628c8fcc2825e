package proxy

import (
	"encoding/hex"
	"time"

	"github.com/buildcage/buildcage/internal/cage/sniff"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// route follows the decision order of the design: guarded address, IP rule,
// TCP rule by name, TLS by SNI, HTTP by Host, else refused.
func (c *session) route() {
	addr := c.orig.Addr()
	switch {
	case c.step.Rules().NetworkNone():
		ev := c.event("")
		ev.RulePos = c.step.Rules().Judge(c.byAddr()).Pos
		c.reset(ev, event.NetworkNone, "")
	case addr == contract.Listen4 || addr == contract.Listen6:
		c.reset(c.event(""), event.SelfAddress, "")
	case fake(addr):
		name, known := c.NameOf(addr)
		if !known {
			c.reset(c.event(""), event.InternalAddress, "no name was given this address")
			return
		}
		c.origName = name
		c.metered()
		c.named()
	default:
		c.raw = true
		c.metered()
		c.unnamed()
	}
}

// named routes a connection to a fake address.
func (c *session) named() {
	if c.step.Rules().Match(c.byName(policy.TCP)) != nil {
		c.tcp()
		return
	}
	patience := time.Duration(0)
	switch {
	case c.mayBeAnything():
		patience = c.Limits.Quiet
	case !c.lenient && !c.expected():
		patience = c.Limits.Refuse
	}
	kind, how := c.peek(patience)
	switch {
	case kind == sniff.TLS:
		c.tls()
	case kind == sniff.HTTP:
		c.http()
	case how == gone:
		c.left()
	case c.mayBeAnything():
		c.tcp()
	case how == finished:
		c.left()
	case how == classified:
		c.reset(c.event(""), event.Unclassified, firstBytes(c.hello))
	case !c.lenient && !c.expected() && len(c.hello) == 0:
		ev := c.event(policy.TCP)
		ev.Name = c.origName
		if t := c.byName(policy.TCP); c.allows(ev, c.step.Rules().Judge(t), t) {
			c.tunnel(ev, c.origName)
			return
		}
		c.reset(ev, event.NotAllowed, "client waits for the server to begin")
	default:
		c.reset(c.event(""), event.HelloTimeout, firstBytes(c.hello))
	}
}

// mayBeAnything says that a connection by name may pass without TLS or HTTP:
// where no rule is needed, so that audit learns tcp rules, and never on the
// web's ports, where silence or garbage is an evasion. See docs/adr/0005.
func (c *session) mayBeAnything() bool {
	switch c.orig.Port() {
	case 80, 443, 8080, 8443:
		return false
	}
	return c.lenient
}

// expected says that a rule could allow TLS or HTTP to the dialled name.
func (c *session) expected() bool {
	scope := c.step.Rules()
	return scope.Match(c.byName(policy.TLS)) != nil || scope.Match(c.byName(policy.HTTP)) != nil
}

func (c *session) byName(p policy.Protocol) policy.Target {
	return policy.Target{Protocol: p, Name: c.origName, Port: c.orig.Port()}
}

func (c *session) byAddr() policy.Target {
	return policy.Target{Protocol: policy.IP, Addr: c.orig.Addr(), Port: c.orig.Port()}
}

// unnamed routes a connection to a real address.
func (c *session) unnamed() {
	switch c.Dialer.Check(c.orig.Addr()) {
	case policy.Self:
		c.reset(c.event(policy.IP), event.SelfAddress, "")
		return
	case policy.Forbidden:
		c.reset(c.event(policy.IP), event.InternalAddress, "")
		return
	}
	if c.step.Rules().Match(c.byAddr()) != nil {
		c.ip("")
		return
	}
	patience := c.Limits.Refuse
	if c.lenient {
		patience = c.Limits.Quiet
	}
	kind, how := c.peek(patience)
	switch {
	case kind == sniff.TLS:
		c.tls()
	case kind == sniff.HTTP:
		c.http()
	case how == gone:
		c.refuseAddr("client closed")
	default:
		c.ip(firstBytes(c.hello))
	}
}

// ip judges the raw address and passes the connection on to it as it is.
func (c *session) ip(detail string) {
	ev := c.event(policy.IP)
	d := c.step.Rules().Judge(c.byAddr())
	if !c.allows(ev, d, c.byAddr()) {
		c.reset(ev, event.Reason(d.Reason), detail)
		return
	}
	c.tunnel(ev, "")
}

// refuseAddr records a raw connection that ended before it could pass, with
// the decision about its address.
func (c *session) refuseAddr(detail string) {
	ev := c.event(policy.IP)
	c.forsaken(ev)
	ev.Detail = detail
	c.end(ev)
	c.record(ev)
}

// tcp judges the dialled name for any protocol and passes the connection on.
func (c *session) tcp() {
	ev := c.event(policy.TCP)
	ev.Name = c.origName
	d := c.step.Rules().Judge(c.byName(policy.TCP))
	if !c.allows(ev, d, c.byName(policy.TCP)) {
		c.reset(ev, event.Reason(d.Reason), firstBytes(c.hello))
		return
	}
	c.tunnel(ev, c.origName)
}

// left records a client that went away before it said what it wanted.
func (c *session) left() {
	ev := c.event("")
	ev.Name = c.origName
	c.forsaken(ev, policy.TLS, policy.HTTP, policy.TCP)
	ev.Detail = "client closed; " + firstBytes(c.hello)
	c.end(ev)
	c.record(ev)
}

// forsaken gives the verdict on a client that left early: refused when nothing
// that it could have said would have been allowed.
func (c *session) forsaken(ev *event.Conn, could ...policy.Protocol) {
	if c.raw {
		could = []policy.Protocol{policy.IP}
	}
	for _, p := range could {
		t := c.byName(p)
		if c.raw {
			t = c.byAddr()
		}
		d := c.step.Rules().Judge(t)
		decide(ev, d)
		if d.Allowed {
			ev.Verdict, ev.Reason = event.Failed, event.ClientClosed
			return
		}
	}
}

// firstBytes shows what an unclassified client began with.
func firstBytes(b []byte) string {
	if len(b) == 0 {
		return "no bytes"
	}
	return "first bytes " + hex.EncodeToString(b[:min(len(b), 8)])
}
