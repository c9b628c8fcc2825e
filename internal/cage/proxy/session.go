package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// UnknownStep is recorded for a source address that no running step owns.
const UnknownStep = "unknown"

// Flags of an event.
const (
	flagECH       = "ech"
	flagRerouted  = "rerouted"       // the client dialled another address than that of the judged name
	flagProxied   = "upstream-proxy" // another proxy was asked to connect
	flagPrivate   = "private"        // dialled a private address that no allow_private covers
	flagWebSocket = "websocket"
	flagUpgrade   = "upgrade"
	flagH2C       = "h2c" // an offer of clear text HTTP/2 was taken out
)

// ending is why the proxy itself ended a connection.
type ending int32

const (
	running ending = iota
	reasonIdle
	reasonDrained
	reasonBudget
)

// session is one connection of a client.
type session struct {
	*Server
	client  *peer
	term    lifetime                // ends with the connection
	conduit atomic.Pointer[conduit] // once there is one
	began   time.Time

	step     *step.Step // nil: unknown
	opener   *opener    // nil: nobody looks
	orig     netip.AddrPort
	origName string // the name behind a fake orig
	raw      bool   // orig is a real address
	proxied  bool   // another proxy was asked to connect
	lenient  bool   // audit, or a scope without rules: what no rule names passes

	hello    []byte // what the client sent and nobody has read yet
	up, down atomic.Int64
	usage    *usage
	ended    atomic.Int32
	recorded bool // of requests, the current one
	start    mark // of the current request
	pulse    pulse
}

// serve runs one connection from accept to its event.
func (s *Server) serve(client *peer) {
	c := &session{Server: s, client: client, began: time.Now()}
	c.term.parent = s.life
	client.relay = s.relays[s.turn.Add(1)%uint32(len(s.relays))]
	defer func() {
		if bug := recover(); bug != nil {
			c.crashed(bug)
		}
		if c.conduit.Load() == nil {
			client.Close()
			c.term.end()
			c.leave()
		}
	}()
	if c.identify() {
		c.route()
	}
}

// leave is the last that happens to a connection.
func (c *session) leave() {
	c.fetched.remove(c)
	c.ledger.leave(c)
	c.wait.Done()
}

// crashed records a connection that ended in a bug: it is blocked, never silent.
func (c *session) crashed(bug any) {
	c.Panics.Add(1)
	c.Logger.Error("proxy connection panicked", "panic", bug, "stack", string(debug.Stack()))
	if d := c.conduit.Load(); d != nil {
		d.abort(nil)
		return
	}
	c.client.hard()
	if !c.recorded {
		ev := c.event("")
		ev.Verdict, ev.Reason, ev.Detail = event.Blocked, event.Unclassified, event.Escape(fmt.Sprintf("panic: %v", bug))
		c.record(ev)
	}
}

// identify finds out whose connection it is and where it was meant to go. It
// has refused and recorded the connection when it returns false.
func (c *session) identify() bool {
	remote, local := unmapped(c.client.remote), unmapped(c.client.local)
	orig, err := c.original()
	if c.step = c.Steps.Lookup(remote.Addr()); c.step == nil && c.Own(remote.Addr()) {
		name, _ := c.NameOf(orig.Addr().Unmap())
		c.step = c.Builder(name)
	}
	switch {
	case err != nil || orig == local:
		c.orig = local
		detail := "not redirected"
		if err != nil {
			detail = err.Error()
		}
		return c.reset(c.event(""), event.SelfAddress, detail)
	case c.step == nil || c.step.Rules() == nil:
		c.orig = orig
		return c.reset(c.event(""), event.NotAllowed, "source "+remote.Addr().String()+" is no running step")
	}
	c.orig = netip.AddrPortFrom(orig.Addr().Unmap(), orig.Port())
	c.opener = c.whoOpened()
	if !c.ledger.enter(c, &c.Limits) {
		return c.reset(c.event(""), event.Overload, "")
	}
	if c.life.Err() != nil { // who cuts the others may have passed already
		c.cut(reasonDrained)
	}
	c.lenient = c.step.Rules().Lenient()
	return true
}

// original asks for the destination that the client dialled.
func (c *session) original() (to netip.AddrPort, err error) {
	gone := c.client.control(func(fd int) { to, err = c.Original(fd, c.client.remote) })
	return to, errors.Join(gone, err)
}

func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	return unmapped(tcp.AddrPort())
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// fake reports whether a belongs to the addresses that stand for names.
func fake(a netip.Addr) bool {
	return contract.FakeNet4.Contains(a) || contract.FakeNet6.Contains(a)
}

// event begins the event of this connection or of one of its requests.
func (c *session) event(protocol policy.Protocol) *event.Conn {
	ev := &event.Conn{
		Step: UnknownStep, Protocol: string(protocol),
		Orig: c.orig, OrigName: event.Escape(c.origName), Port: c.orig.Port(),
	}
	if c.step != nil {
		ev.Step = c.step.ID
	}
	return ev
}

// record completes and hands over the one event of a connection.
func (c *session) record(ev *event.Conn) {
	ev.Up, ev.Down = c.up.Load()-c.start.up, c.down.Load()-c.start.down
	ev.Took = time.Since(c.began)
	c.emit(ev)
}

func (c *session) emit(ev *event.Conn) {
	c.recorded = true
	ev.Process = c.opener.wait(ev.Verdict == event.Blocked)
	record := c.Record
	if c.step != nil && c.step.Record != nil {
		record = c.step.Record
	}
	record(event.Record{Time: time.Now(), Kind: event.KindConn, Conn: ev})
}

// reset refuses a connection whose protocol has no words for it. It returns false.
func (c *session) reset(ev *event.Conn, reason event.Reason, detail string) bool {
	ev.Verdict, ev.Reason, ev.Detail = event.Blocked, reason, event.Escape(detail)
	c.record(ev)
	c.client.hard()
	return false
}

// decide copies a decision into the event.
func decide(ev *event.Conn, d policy.Decision) {
	ev.Rule, ev.RulePos, ev.Expected = d.Rule, d.Pos, d.Expected
	switch {
	case !d.Allowed:
		ev.Verdict, ev.Reason = event.Blocked, event.Reason(d.Reason)
	case d.Audited:
		ev.Verdict = event.Audited
	default:
		ev.Verdict = event.Allowed
	}
}

// cut ends the connection at once, from any goroutine. The first reason counts.
func (c *session) cut(why ending) {
	c.ended.CompareAndSwap(int32(running), int32(why))
	if d := c.conduit.Load(); d != nil {
		d.abort(nil)
		return
	}
	c.client.hard() // before somebody who is cancelled closes it in peace
	c.term.end()
	c.client.Close()
}

// end notes in the event why the proxy itself ended the connection, if it did.
func (c *session) end(ev *event.Conn) {
	switch ending(c.ended.Load()) {
	case reasonIdle:
		ev.Reason = event.Idle
	case reasonDrained:
		ev.Detail = "cut at the end of the cage"
	case reasonBudget:
		ev.Verdict, ev.Reason = event.Blocked, event.UploadBudget
	}
}
