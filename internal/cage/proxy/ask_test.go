package proxy_test

import (
	"context"
	"crypto/tls"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// answering makes the proxy ask, and returns what it asked. The connection is
// held until an answer comes, which is that to all questions.
func answering(answers <-chan bool) (option func(*proxy.Server), asked chan string) {
	asked = make(chan string, 16)
	return func(s *proxy.Server) {
		s.Ask = func(ctx context.Context, st *step.Step, t policy.Target, _ *event.Conn) (bool, bool) {
			asked <- st.ID + " " + string(t.Protocol) + " " + t.String()
			select {
			case allow := <-answers:
				return true, allow
			case <-ctx.Done():
				return true, false
			}
		}
	}, asked
}

func wantAsked(t *testing.T, ev *event.Conn) {
	t.Helper()
	if !slices.Contains(ev.Flags, "asked") || (ev.Rule == "asked") != (ev.Verdict == event.Allowed) {
		t.Errorf("nothing says that it was asked about: %+v", ev)
	}
}

// What no rule allows waits for the answer: then it passes, or is refused as ever.
func TestAskTLS(t *testing.T) {
	answers := make(chan bool)
	option, asked := answering(answers)
	l := newLab(t, anyPort(), option)
	o := l.http(nil, true)
	for _, allow := range []bool{false, true} {
		conn := l.named("blocked.example.com", o.port)
		client := tls.Client(conn, &tls.Config{ServerName: "blocked.example.com", InsecureSkipVerify: true})
		shaken := make(chan error, 1)
		go func() { shaken <- client.Handshake() }()
		if got := <-asked; !strings.HasPrefix(got, "s1 tls blocked.example.com:") {
			t.Errorf("asked %q", got)
		}
		if !allow {
			l.untouched(o)
		}
		answers <- allow
		if err := <-shaken; (err == nil) != allow {
			t.Errorf("answer %v: handshake %v", allow, err)
		}
		conn.Close()
		if allow {
			wantAsked(t, l.want(event.Allowed, "tls", "blocked.example.com", ""))
			continue
		}
		wantAsked(t, l.want(event.Blocked, "tls", "blocked.example.com", event.NotAllowed))
	}
}

func TestAskHTTP(t *testing.T) {
	answers := make(chan bool, 2)
	option, _ := answering(answers)
	l := newLab(t, anyPort(), option)
	o := l.http(nil, false)
	request := "GET / HTTP/1.1\r\nHost: blocked.example.com\r\nConnection: close\r\n\r\n"
	answers <- false
	if got := exchange(t, l.named("blocked.example.com", 80), request); !strings.Contains(got, " 403 ") {
		t.Errorf("denied: %q", got)
	}
	wantAsked(t, l.want(event.Blocked, "http", "blocked.example.com", event.NotAllowed))
	answers <- true
	got := exchange(t, l.named("blocked.example.com", o.port), strings.Replace(request, ".com\r", ".com:"+strconv.Itoa(o.port)+"\r", 1))
	if !strings.Contains(got, "hello from blocked.example.com") {
		t.Errorf("allowed: %q", got)
	}
	wantAsked(t, l.want(event.Allowed, "http", "blocked.example.com", ""))
}

// A client that waits for the server, and one that dialled an address.
func TestAskTCP(t *testing.T) {
	answers := make(chan bool, 2)
	option, asked := answering(answers)
	l := newLab(t, policy.Spec{}, option)
	o := l.plain(public, greet)
	answers <- true
	talk(t, l.named("git.example.com", o.port))
	wantAsked(t, l.want(event.Allowed, "tcp", "git.example.com", ""))
	answers <- true
	talk(t, l.dial(public, o.port))
	wantAsked(t, l.want(event.Allowed, "ip", "", ""))
	if a, b := <-asked, <-asked; !strings.HasPrefix(a, "s1 tcp git.example.com:") || !strings.HasPrefix(b, "s1 ip 127.0.0.2:") {
		t.Errorf("asked %q and %q", a, b)
	}
}

// What is not refused for want of a rule is nobody's to allow.
func TestAskNever(t *testing.T) {
	option := func(s *proxy.Server) {
		s.Ask = func(_ context.Context, _ *step.Step, target policy.Target, _ *event.Conn) (bool, bool) {
			t.Errorf("asked about %s", target)
			return true, true
		}
	}
	l := newLab(t, policy.Spec{KnownBlocked: texts("blocked.example.com")}, option)
	wasReset(t, l.dial(netip.MustParseAddr("169.254.169.254"), 80)) // guarded
	l.want(event.Blocked, "ip", "", event.InternalAddress)
	conn := l.named("blocked.example.com", 443) // refused by a rule
	conn.Write(helloFor("blocked.example.com"))
	_, _ = io.ReadAll(conn)
	l.want(event.Blocked, "tls", "blocked.example.com", event.NotAllowed)
	conn = l.named("git.example.com", 443) // neither TLS nor HTTP
	io.WriteString(conn, "\x00\x01\x02\x03 garbage garbage garbage")
	wasReset(t, conn)
	l.want(event.Blocked, "", "", event.Unclassified)
}

// An allowed name may still not lead to a private address.
func TestAskGuard(t *testing.T) {
	answers := make(chan bool, 1)
	option, _ := answering(answers)
	l := newLab(t, policy.Spec{}, option)
	l.answers["blocked.example.com"] = []netip.Addr{private}
	answers <- true
	conn := l.named("blocked.example.com", 443)
	conn.Write(helloFor("blocked.example.com"))
	_, _ = io.ReadAll(conn)
	if ev := l.want(event.Blocked, "tls", "blocked.example.com", event.InternalAddress); ev.Resolved != private {
		t.Errorf("%+v", ev)
	}
}
