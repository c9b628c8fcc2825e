package proxy

import (
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/buildcage/buildcage/internal/cage/upstream"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// tunnel passes an allowed connection on, to the origin of name or, without a
// name, to the address that the client dialled. ev holds the decision.
func (c *session) tunnel(ev *event.Conn, name string) {
	c.client.SetReadDeadline(time.Time{})
	if !c.usage.spend(len(c.hello)) {
		c.cut(reasonBudget)
		c.end(ev)
		c.record(ev)
		return
	}
	begun, err := c.begin(name)
	if err != nil {
		c.unreachable(ev, err)
		return
	}
	if err := c.hand(ev, begun); err != nil {
		c.unreachable(ev, err)
	}
}

// begin begins to connect to the origin, and dial is done when it is connected.
func (c *session) begin(name string) (upstream.Begun, error) {
	c.proxied = c.Dialer.Proxied(c.host(name), c.orig.Port())
	if name == "" {
		return c.Dialer.BeginAddr(&c.term, c.orig, len(c.hello) > 0)
	}
	return c.Dialer.Begin(&c.term, name, c.orig.Port(), len(c.hello) > 0, c.private)
}

func (c *session) dial(name string) (*net.TCPConn, error) {
	c.proxied = c.Dialer.Proxied(c.host(name), c.orig.Port())
	if name == "" {
		return c.Dialer.DialAddr(&c.term, c.orig)
	}
	return c.Dialer.Dial(&c.term, name, c.orig.Port(), c.private)
}

// host is what the origin is called: its name, or its address without one.
func (c *session) host(name string) string {
	if name == "" {
		return c.orig.Addr().String()
	}
	return name
}

// private says whether a private address may be dialled.
func (c *session) private(a netip.Addr) bool {
	return c.step.Rules().Lenient() || c.step.Rules().PrivateAllowed(netip.AddrPortFrom(a, c.orig.Port()))
}

// dialled notes the address, and that it is private where no rule says so.
func (c *session) dialled(ev *event.Conn, to netip.AddrPort) {
	ev.Dialled = to
	if c.proxied {
		ev.Flags = append(ev.Flags, flagProxied)
		return
	}
	if c.Dialer.Check(to.Addr()) == policy.Private && !c.step.Rules().PrivateAllowed(to) {
		ev.Flags = append(ev.Flags, flagPrivate)
	}
}

// unreachable ends an allowed connection that could not be dialled.
func (c *session) unreachable(ev *event.Conn, err error) {
	c.blame(ev, err)
	if ev.Verdict == event.Blocked && ev.Protocol == string(policy.TLS) {
		c.alert(ev, ev.Reason, ev.Detail)
		return
	}
	c.end(ev)
	c.record(ev)
	c.client.hard()
}

// blame puts into the event why dialling failed: the guard blocks, anything
// else is a failure of an allowed connection.
func (c *session) blame(ev *event.Conn, err error) {
	var guard *upstream.GuardError
	var name *upstream.NameError
	ev.Verdict, ev.Reason, ev.Detail = event.Failed, event.UpstreamError, event.Escape(err.Error())
	switch {
	case errors.As(err, &guard):
		ev.Verdict, ev.Reason = event.Blocked, event.InternalAddress
		if guard.Class == policy.Self {
			ev.Reason = event.SelfAddress
		}
		ev.Dialled, ev.Resolved = netip.AddrPort{}, guard.Addr
		ev.Resolved = guard.Addr
		ev.Detail = "resolves to " + guard.Addr.String()
		if guard.Class == policy.Private {
			ev.Detail += ", a private address; to allow it add allow_private: [" + guard.Addr.String() + "]"
		}
	case errors.As(err, &name):
		ev.Reason = event.DNSFailed
	}
}

// broken notes an origin that broke off. One that never answered is a failure.
func (c *session) broken(ev *event.Conn, err error) {
	if c.down.Load() == 0 {
		ev.Verdict, ev.Reason = event.Failed, event.UpstreamError
	}
	ev.Detail = event.Escape(err.Error())
}

// caught turns a bug in the second goroutine into the end of this connection.
func (c *session) caught(bug any, done chan<- error) {
	if bug == nil {
		return
	}
	c.Panics.Add(1)
	c.Logger.Error("proxy connection panicked", "panic", bug)
	c.cut(running)
	done <- errors.New("panic")
}
