package proxy_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// greet speaks first, as ssh and databases do, and echoes.
func greet(c net.Conn) {
	io.WriteString(c, "hello, I speak first\n")
	io.Copy(c, c)
}

// talk waits for the greeting, sends ping and wants it back.
func talk(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	want := "hello, I speak first\nping"
	got := make([]byte, len(want))
	_, err := io.ReadFull(conn, got[:len(want)-4])
	if err == nil {
		io.WriteString(conn, "ping")
		_, err = io.ReadFull(conn, got[len(want)-4:])
	}
	if err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	conn.Close()
}

func TestTCPRule(t *testing.T) {
	l := newLab(t, policy.Spec{Rules: policy.RuleTexts{TCP: texts("git.example.com:*")}})
	o := l.plain(public, greet)
	talk(t, l.named("git.example.com", o.port))
	if ev := l.want(event.Allowed, "tcp", "git.example.com", ""); ev.Up != 4 || ev.Down != 25 || ev.OrigName != "git.example.com" {
		t.Errorf("%+v", ev)
	}
}

func TestIPRule(t *testing.T) {
	l := newLab(t, policy.Spec{Rules: policy.RuleTexts{IP: texts("127.0.0.2:*", "127.0.0.3:*", "169.254.169.254:80", "192.0.2.99:80")}})
	for _, addr := range []netip.Addr{public, private} {
		o := l.plain(addr, greet)
		talk(t, l.dial(addr, o.port))
		if ev := l.want(event.Allowed, "ip", "", ""); len(ev.Flags) > 0 || ev.Dialled != ev.Orig {
			t.Errorf("%+v", ev)
		}
	}
	// No rule opens a guarded address.
	wasReset(t, l.dial(netip.MustParseAddr("169.254.169.254"), 80))
	l.want(event.Blocked, "ip", "", event.InternalAddress)
	wasReset(t, l.dial(netip.MustParseAddr("192.0.2.99"), 80))
	l.want(event.Blocked, "ip", "", event.SelfAddress)
}

// Audit learns tcp and ip rules from connections that are neither TLS nor
// HTTP, whether the client or the server speaks first.
func TestAuditPassesAnything(t *testing.T) {
	l := newLab(t, inAudit(policy.Spec{}))
	o := l.plain(public, greet)
	hidden := l.plain(private, greet)
	talk(t, l.named("git.example.com", o.port))
	l.want(event.Audited, "tcp", "git.example.com", "")
	talk(t, l.dial(public, o.port))
	l.want(event.Audited, "ip", "", "")
	talk(t, l.dial(private, hidden.port))
	if ev := l.want(event.Audited, "ip", "", ""); len(ev.Flags) != 1 || ev.Flags[0] != "private" {
		t.Errorf("%+v", ev)
	}
	for _, to := range []netip.Addr{fakeOf("git.example.com"), public} {
		conn := l.dial(to, o.port)
		io.WriteString(conn, "SSH-2.0-OpenSSH\r\n")
		conn.CloseWrite()
		if b, err := io.ReadAll(conn); err != nil || string(b) != "hello, I speak first\nSSH-2.0-OpenSSH\r\n" {
			t.Errorf("%q, %v", b, err)
		}
		if ev := l.next(); ev.Verdict != event.Audited {
			t.Errorf("%+v", ev)
		}
	}
	// Connect and close, as port scanners do.
	l.dial(public, o.port).CloseWrite()
	l.want(event.Audited, "ip", "", "")
}

// TLS without a name to a raw address is what an IP rule allows.
func TestRawTLSWithoutName(t *testing.T) {
	for mode, want := range map[policy.Mode]event.Verdict{policy.Audit: event.Audited, policy.Restrict: event.Blocked} {
		l := newLab(t, policy.Spec{Mode: mode})
		o := l.plain(public, func(c net.Conn) { io.Copy(io.Discard, c) })
		conn := l.dial(public, o.port)
		conn.Write(helloFor(""))
		conn.CloseWrite()
		io.ReadAll(conn)
		conn.Close()
		if ev := l.next(); ev.Verdict != want || ev.Protocol != "ip" {
			t.Errorf("%s: %+v", mode, ev)
		}
	}
}

// In audit a first byte of TLS, and the ports of the web, never fall through to tcp.
func TestAuditStaysStrict(t *testing.T) {
	short := func(s *proxy.Server) { s.Limits.Hello = 300 * time.Millisecond }
	l := newLab(t, inAudit(policy.Spec{}), short)
	o := l.plain(public, greet)
	for _, c := range []struct {
		port   int
		send   string
		reason event.Reason
	}{
		{o.port, "\x16", event.HelloTimeout},
		{o.port, "\x16\x03\x01\x00\x10\x01", event.HelloTimeout},
		{o.port, "\x16XSH-2.0", event.HelloMalformed},
		{443, "SSH-2.0-OpenSSH\r\n", event.Unclassified},
		{80, "", event.HelloTimeout},
		{8080, "EHLO", event.HelloTimeout},
	} {
		conn := l.named("git.example.com", c.port)
		io.WriteString(conn, c.send)
		io.ReadAll(conn)
		if ev := l.next(); ev.Verdict != event.Blocked || ev.Reason != c.reason {
			t.Errorf("port %d, %q: %+v, want %s", c.port, c.send, ev, c.reason)
		}
	}
	l.untouched(o)
}

func TestRestrictRefuses(t *testing.T) {
	short := func(s *proxy.Server) { s.Limits.Hello = time.Second }
	l := newLab(t, anyPort(), short)
	o := l.plain(public, greet)
	for _, c := range []struct {
		to     netip.Addr
		send   string
		proto  string
		name   string
		reason event.Reason
	}{
		{public, "", "ip", "", event.IPNotAllowed},
		{public, "SSH-2.0-x\r\n", "ip", "", event.IPNotAllowed},
		{public, string(helloFor("blocked.example.com")), "ip", "", event.IPNotAllowed},
		{private, "", "ip", "", event.IPNotAllowed},
		{fakeOf("blocked.example.com"), "", "tcp", "blocked.example.com", event.NotAllowed},
		{fakeOf("blocked.example.com"), "SSH-2.0-x\r\n", "", "", event.Unclassified},
		{fakeOf("allowed.example.com"), "SSH-2.0-x\r\n", "", "", event.Unclassified},
		{fakeOf("allowed.example.com"), "", "", "", event.HelloTimeout},
		{fakeOf("allowed.example.com"), "\x16\x03\x01", "tls", "", event.HelloTimeout},
		{fakeOf("allowed.example.com"), "GET / HTTP/1.1\r\n", "http", "", event.HelloTimeout},
		{netip.MustParseAddr("169.254.169.254"), "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n", "ip", "", event.InternalAddress},
		{netip.MustParseAddr("198.18.200.1"), "", "", "", event.InternalAddress},
		{netip.MustParseAddr("198.19.0.5"), "", "ip", "", event.InternalAddress},
		{contract.Listen4, "", "", "", event.SelfAddress},
		{contract.Listen6, "", "", "", event.SelfAddress},
	} {
		conn := l.dial(c.to, o.port)
		io.WriteString(conn, c.send)
		io.ReadAll(conn)
		l.want(event.Blocked, c.proto, c.name, c.reason)
	}
	l.untouched(o)
	if names := l.lookedUp(); len(names) > 0 {
		t.Errorf("resolved %v", names)
	}
}

func TestClientCloses(t *testing.T) {
	l := newLab(t, anyPort())
	for _, c := range []struct {
		to      netip.Addr
		send    string
		verdict event.Verdict
		reason  event.Reason
	}{
		{fakeOf("allowed.example.com"), "", event.Failed, event.ClientClosed},
		{fakeOf("allowed.example.com"), "\x16\x03", event.Failed, event.ClientClosed},
		{fakeOf("allowed.example.com"), "GE", event.Failed, event.ClientClosed},
		{fakeOf("blocked.example.com"), "", event.Blocked, event.NotAllowed},
		{fakeOf("blocked.example.com"), "\x16\x03", event.Blocked, event.NotAllowed},
		{public, "", event.Blocked, event.IPNotAllowed},
		{public, "\x16\x03", event.Blocked, event.IPNotAllowed},
	} {
		for _, abort := range []bool{false, true} {
			conn := l.dial(c.to, 443)
			io.WriteString(conn, c.send)
			if abort {
				conn.SetLinger(0)
			}
			conn.Close()
			if ev := l.next(); ev.Verdict != c.verdict || ev.Reason != c.reason {
				t.Errorf("%s %q abort %v: %+v, want %s", c.to, c.send, abort, ev, c.reason)
			}
		}
	}
}

func TestWhoIsWho(t *testing.T) {
	spec := anyPort()
	spec.Builder = &policy.RuleTexts{TCP: texts("git.example.com:*")}
	l := newLab(t, spec, func(s *proxy.Server) {
		s.Steps.Forget(s.Steps.Lookup(netip.MustParseAddr("127.0.0.1")))
		s.Own = func(a netip.Addr) bool { return a.IsLoopback() }
	})
	o := l.plain(public, greet)
	talk(t, l.named("git.example.com", o.port))
	if ev := l.want(event.Allowed, "tcp", "git.example.com", ""); ev.Step != event.BuilderStep {
		t.Errorf("%+v", ev)
	}

	l = newLab(t, spec, func(s *proxy.Server) { s.Steps.Forget(s.Steps.Lookup(netip.MustParseAddr("127.0.0.1"))) })
	wasReset(t, l.named("git.example.com", o.port))
	if ev := l.want(event.Blocked, "", "", event.NotAllowed); ev.Step != "unknown" || !strings.Contains(ev.Detail, "no running step") {
		t.Errorf("%+v", ev)
	}
}

// A builder without a section is recorded, not restricted, and nothing structural is loosened.
func TestUnrestrictedBuilder(t *testing.T) {
	l := newLab(t, policy.Spec{}, func(s *proxy.Server) {
		s.Steps.Forget(s.Steps.Lookup(netip.MustParseAddr("127.0.0.1")))
		s.Own = func(a netip.Addr) bool { return a.IsLoopback() }
	})
	o := l.http(nil, true)
	if _, err := get(l.named("other.example.com", o.port), "other.example.com"); err != nil {
		t.Error(err)
	}
	l.want(event.Allowed, "tls", "other.example.com", "")
	plain := l.plain(public, greet)
	talk(t, l.named("git.example.com", plain.port))
	l.want(event.Allowed, "tcp", "git.example.com", "")
	conn := l.named("other.example.com", o.port)
	conn.Write(helloFor(""))
	wantAlert(t, conn, 112)
	l.want(event.Blocked, "tls", "", event.MissingSNI)
	wasReset(t, l.dial(netip.MustParseAddr("169.254.169.254"), 80))
	l.want(event.Blocked, "ip", "", event.InternalAddress)
}

func TestNetworkNone(t *testing.T) {
	for _, mode := range []policy.Mode{policy.Restrict, policy.Audit} {
		spec := anyPort()
		spec.Mode = mode
		spec.Steps = []policy.StepSpec{{Network: "none"}}
		l := newLab(t, spec)
		wasReset(t, l.named("allowed.example.com", 443))
		l.want(event.Blocked, "", "", event.NetworkNone)
	}
}

// A connection that was not redirected meets the real SO_ORIGINAL_DST.
func TestDirectConnection(t *testing.T) {
	l := newLab(t, inAudit(policy.Spec{}), func(s *proxy.Server) { s.Original = nil })
	conn, err := net.Dial("tcp", l.addr)
	if err == nil { // else the reset was quicker
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(20 * time.Second))
		wasReset(t, conn.(*net.TCPConn))
	}
	l.want(event.Blocked, "", "", event.SelfAddress)
}

// Connections that nobody uses any more do not hold up the end of a cage.
func TestDrainCutsQuietConnections(t *testing.T) {
	l := newLab(t, tcpAnywhere())
	o := l.plain(public, greet)
	idle := l.named("git.example.com", o.port)
	io.ReadFull(idle, make([]byte, 21))
	l.stop()
	if err := <-l.stopped; err != nil {
		t.Error(err)
	}
	began := time.Now()
	l.server.Drain(t.Context())
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("took %s", took)
	}
	l.want(event.Allowed, "tcp", "git.example.com", "")
}

func TestDrain(t *testing.T) {
	l := newLab(t, anyPort(), func(s *proxy.Server) { s.Limits.KeepAlive = time.Hour })
	reached := make(chan bool, 2)
	o := l.plain(public, func(c net.Conn) {
		reached <- true
		io.Copy(c, c)
	})
	tunnel := l.named("allowed.example.com", o.port)
	hello := helloFor("allowed.example.com")
	tunnel.Write(hello)
	io.ReadFull(tunnel, make([]byte, len(hello)))
	waiting := l.named("allowed.example.com", o.port)
	io.WriteString(waiting, "\x16\x03")
	stuck := l.named("allowed.example.com", o.port)
	io.WriteString(stuck, "POST / HTTP/1.1\r\nHost: allowed.example.com\r\nContent-Length: 10\r\n\r\n")
	<-reached
	<-reached
	l.stop()
	if err := <-l.stopped; err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	l.server.Drain(ctx)
	if n := len(l.events); n != 3 {
		t.Errorf("%d events after Drain", n)
	}
	for range min(3, len(l.events)) {
		l.next()
	}
}
