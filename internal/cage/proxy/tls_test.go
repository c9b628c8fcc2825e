package proxy_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// get fetches / over TLS through conn.
func get(conn net.Conn, name string) (string, error) {
	c := tls.Client(conn, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name)
	b, err := io.ReadAll(c)
	conn.Close()
	return string(b), err
}

func TestTLSAllowed(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(nil, true)
	body, err := get(l.named("allowed.example.com", o.port), "Allowed.Example.COM")
	if err != nil || !strings.Contains(body, "hello from Allowed") {
		t.Errorf("%q, %v", body, err)
	}
	ev := l.want(event.Allowed, "tls", "allowed.example.com", "")
	if ev.RawName != "Allowed.Example.COM" || ev.Step != "s1" || ev.Rule != "allowed.example.com:*" ||
		int(ev.Port) != o.port || ev.Dialled != netip.AddrPortFrom(public, uint16(o.port)) || ev.Up != o.bytes.Load() || ev.Down == 0 {
		t.Errorf("%+v", ev)
	}
	if len(ev.Flags) != 0 {
		t.Errorf("flags %v", ev.Flags)
	}
}

func TestTLSRefused(t *testing.T) {
	for _, mode := range []policy.Mode{policy.Restrict, policy.Audit} {
		spec := anyPort()
		spec.Mode = mode
		l := newLab(t, spec)
		o := l.http(nil, true)
		for _, c := range []struct {
			wire   []byte
			reason event.Reason
			alert  byte
		}{
			{helloFor("blocked.example.com"), event.NotAllowed, 112},
			{helloFor(""), event.MissingSNI, 112},
			{bytes.Replace(helloFor("allowed.example.com"), []byte("allowed."), []byte("allow\x00d."), 1), event.InvalidSNI, 112},
			{[]byte{22, 3, 1, 0, 4, 2, 0, 0, 0}, event.HelloMalformed, 49},
			{[]byte{22, 3, 0, 0, 4, 1, 0, 0, 0}, event.HelloMalformed, 49},
			{[]byte{22, 3, 1, 0x40, 0, 1, 2, 0, 0}, event.HelloTooLarge, 49},
		} {
			if c.reason == event.NotAllowed && mode == policy.Audit {
				continue
			}
			conn := l.named("allowed.example.com", o.port)
			conn.Write(c.wire)
			wantAlert(t, conn, c.alert)
			ev := l.next()
			if ev.Verdict != event.Blocked || ev.Reason != c.reason || ev.Protocol != "tls" {
				t.Errorf("%s: %+v, want %s", mode, ev, c.reason)
			}
		}
		l.untouched(o)
		if names := l.lookedUp(); len(names) > 0 {
			t.Errorf("%s: resolved %v", mode, names)
		}
	}
}

func TestTLSAudited(t *testing.T) {
	l := newLab(t, inAudit(anyPort()))
	o := l.http(nil, true)
	if _, err := get(l.named("blocked.example.com", o.port), "blocked.example.com"); err != nil {
		t.Error(err)
	}
	l.want(event.Audited, "tls", "blocked.example.com", "")
}

// A hello that names another host than the dialled fake address goes to the
// host that it names; so does one towards a foreign address.
func TestTLSRerouted(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(nil, true)
	sink := l.plain(private, func(net.Conn) {})
	for _, to := range []netip.Addr{fakeOf("blocked.example.com"), netip.MustParseAddr("203.0.113.7"), private} {
		if _, err := get(l.dial(to, o.port), "allowed.example.com"); err != nil {
			t.Error(err)
		}
		ev := l.want(event.Allowed, "tls", "allowed.example.com", "")
		if len(ev.Flags) != 1 || ev.Flags[0] != "rerouted" || ev.Dialled.Addr() != public {
			t.Errorf("%+v", ev)
		}
	}
	l.untouched(sink)
}

func ech(t *testing.T) []byte {
	t.Helper()
	wire := helloFor("allowed.example.com")
	// Rename an extension that Go always sends: extended_master_secret, which is empty.
	i := bytes.Index(wire, []byte{0, 23, 0, 0})
	if i < 0 {
		t.Fatal("no extended_master_secret in the hello")
	}
	wire[i], wire[i+1] = 0xfe, 0x0d
	return wire
}

func TestECH(t *testing.T) {
	allow := anyPort()
	allow.ECH = "allow"
	for title, c := range map[string]struct {
		spec   policy.Spec
		refuse bool
	}{
		"restrict": {anyPort(), true}, "allow": {allow, false}, "audit": {inAudit(anyPort()), false},
	} {
		t.Run(title, func(t *testing.T) {
			l := newLab(t, c.spec)
			o := l.plain(public, func(conn net.Conn) { io.CopyN(conn, conn, 10) })
			conn := l.named("allowed.example.com", o.port)
			conn.Write(ech(t))
			var ev *event.Conn
			if c.refuse {
				wantAlert(t, conn, 49)
				ev = l.want(event.Blocked, "tls", "allowed.example.com", event.ECHPresent)
				l.untouched(o)
			} else {
				io.ReadAll(conn)
				ev = l.want(event.Allowed, "tls", "allowed.example.com", "")
			}
			if len(ev.Flags) != 1 || ev.Flags[0] != "ech" {
				t.Errorf("flags %v", ev.Flags)
			}
		})
	}
}

// One byte at a time, and a hello in many records.
func TestTLSPieces(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.plain(public, func(conn net.Conn) { io.Copy(conn, conn) })
	wire := helloFor("allowed.example.com")
	conn := l.named("allowed.example.com", o.port)
	conn.SetNoDelay(true)
	for i := range wire {
		conn.Write(wire[i : i+1])
	}
	conn.CloseWrite()
	if b, err := io.ReadAll(conn); err != nil || !bytes.Equal(b, wire) {
		t.Errorf("%d bytes came back of %d, %v", len(b), len(wire), err)
	}
	l.want(event.Allowed, "tls", "allowed.example.com", "")
}

// 500 handshakes in a row and 64 at once, each with a post-quantum key share.
func TestPostQuantumHellos(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.CurveID != tls.X25519MLKEM768 {
			t.Errorf("curve %v", r.TLS.CurveID)
		}
		io.WriteString(w, "ok")
	}, true)
	if n := len(helloFor("allowed.example.com")); n < 1500 {
		t.Fatalf("hello of %d bytes is not post-quantum", n)
	}
	for range 500 {
		if _, err := get(l.named("allowed.example.com", o.port), "allowed.example.com"); err != nil {
			t.Fatal(err)
		}
		l.want(event.Allowed, "tls", "allowed.example.com", "")
	}
	var group sync.WaitGroup
	for range 64 {
		conn := l.named("allowed.example.com", o.port)
		group.Go(func() {
			if _, err := get(conn, "allowed.example.com"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for range 64 {
		l.want(event.Allowed, "tls", "allowed.example.com", "")
	}
}

// What stands behind the hello of a refused connection goes nowhere.
func TestNoByteBeforeTheVerdict(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(nil, true)
	conn := l.named("blocked.example.com", o.port)
	conn.Write(append(helloFor("blocked.example.com"), bytes.Repeat([]byte("secret"), 20000)...))
	wantAlert(t, conn, 112)
	l.want(event.Blocked, "tls", "blocked.example.com", event.NotAllowed)
	l.untouched(o)
}

func TestOriginFails(t *testing.T) {
	l := newLab(t, anyPort())
	closed, listener := l.listen(public)
	listener.Close()
	conn := l.named("allowed.example.com", closed.port)
	conn.Write(helloFor("allowed.example.com"))
	wasReset(t, conn)
	l.want(event.Failed, "tls", "allowed.example.com", event.UpstreamError)

	l.answers["allowed.example.com"] = nil
	conn = l.named("allowed.example.com", closed.port)
	conn.Write(helloFor("allowed.example.com"))
	wasReset(t, conn)
	l.want(event.Failed, "tls", "allowed.example.com", event.DNSFailed)
}

func TestGuard(t *testing.T) {
	for addr, want := range map[string]event.Reason{
		"127.0.0.1": event.InternalAddress, "169.254.169.254": event.InternalAddress, "10.0.0.1": event.InternalAddress,
		"198.18.0.1": event.InternalAddress, "192.0.2.99": event.SelfAddress, "::1": event.InternalAddress,
		"::ffff:127.0.0.1": event.InternalAddress, "64:ff9b::7f00:1": event.InternalAddress, "fd00:ec2::254": event.InternalAddress,
	} {
		l := newLab(t, anyPort())
		l.answers["allowed.example.com"] = []netip.Addr{netip.MustParseAddr(addr)}
		conn := l.named("allowed.example.com", 443)
		conn.Write(helloFor("allowed.example.com"))
		wantAlert(t, conn, 49)
		ev := l.want(event.Blocked, "tls", "allowed.example.com", want)
		if ev.Dialled.IsValid() {
			t.Errorf("%s: dialled %s", addr, ev.Dialled)
		}
	}
}

// The private address passes in audit, flagged, and where the policy opens it.
func TestPrivate(t *testing.T) {
	byRule := anyPort()
	byRule.Rules.IP = texts("127.0.0.3:*")
	for title, c := range map[string]struct {
		spec policy.Spec
		want string
	}{
		"restrict": {anyPort(), "refused"}, "audit": {inAudit(anyPort()), "private"}, "ip rule": {byRule, ""},
	} {
		t.Run(title, func(t *testing.T) {
			l := newLab(t, c.spec)
			l.answers["allowed.example.com"] = []netip.Addr{private}
			o := l.plain(private, func(conn net.Conn) { io.CopyN(conn, conn, 10) })
			conn := l.named("allowed.example.com", o.port)
			conn.Write(helloFor("allowed.example.com"))
			io.ReadAll(conn)
			ev := l.next()
			if got := strings.Join(ev.Flags, ","); c.want != "refused" && (got != c.want || ev.Verdict != event.Allowed) {
				t.Errorf("%+v", ev)
			}
			if c.want == "refused" && (ev.Reason != event.InternalAddress || !strings.Contains(ev.Detail, "allow_private: [127.0.0.3]")) {
				t.Errorf("%+v", ev)
			}
		})
	}
}

// A name that changes its address between two lookups: what was checked is what is dialled.
func TestRebinding(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(nil, true)
	trap := l.plain(private, func(net.Conn) {})
	for i := range 50 {
		answers := [][]netip.Addr{{public}, {private}, {private, public}, {public, private}}[i%4]
		l.mu.Lock()
		l.answers["allowed.example.com"] = answers
		l.mu.Unlock()
		_, err := get(l.named("allowed.example.com", o.port), "allowed.example.com")
		ev := l.next()
		if refused := len(answers) == 1 && answers[0] == private; refused != (err != nil) || !refused && ev.Dialled.Addr() != public {
			t.Fatalf("%v: %v, %+v", answers, err, ev)
		}
	}
	l.untouched(trap)
	if n := len(l.lookedUp()); n != 50 {
		t.Errorf("%d lookups for 50 connections", n)
	}
}

func TestPanicIsRecorded(t *testing.T) {
	l := newLab(t, anyPort(), func(s *proxy.Server) {
		s.NameOf = func(netip.Addr) (string, bool) { panic(errors.Join(errScripted)) }
	})
	wasReset(t, l.named("allowed.example.com", 443))
	ev := l.next()
	if ev.Verdict != event.Blocked || !strings.Contains(ev.Detail, "panic: scripted") {
		t.Errorf("%+v", ev)
	}
	if l.server.Panics.Swap(0) != 1 {
		t.Error("panic was not counted")
	}
}
