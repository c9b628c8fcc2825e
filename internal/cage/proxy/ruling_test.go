package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// What was ruled about a Host holds as long as the rules do.
func TestNarrowedBetweenRequests(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(nil, false)
	conn := l.named("allowed.example.com", o.port)
	br := bufio.NewReader(conn)
	for i, want := range []int{200, 200, 403} {
		if i == 2 {
			spec := anyPort()
			spec.Rules.HTTP = texts("other.example.com:*")
			p, err := policy.Compile(spec)
			if err != nil {
				t.Fatal(err)
			}
			l.server.Steps.Lookup(netip.MustParseAddr("127.0.0.1")).Narrow(p.For(policy.Step{}))
		}
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
		r, err := http.ReadResponse(br, nil)
		if err != nil || r.StatusCode != want {
			t.Fatalf("request %d: %v, %v", i, r, err)
		}
		io.Copy(io.Discard, r.Body)
		l.next()
	}
}

// A Host that was allowed does not allow another target.
func TestAbsoluteAfterPath(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(nil, false)
	for _, name := range []string{"blocked.example.com", "other.example.com"} {
		conn := l.named("allowed.example.com", o.port)
		br := bufio.NewReader(conn)
		for i, target := range []string{"/", fmt.Sprintf("http://allowed.example.com:%d/", o.port), "/", fmt.Sprintf("http://%s:%d/", name, o.port)} {
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n", target)
			r, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, r.Body)
			if want := []int{200, 200, 200, 400}[i]; r.StatusCode != want {
				t.Errorf("%s: %d, want %d", target, r.StatusCode, want)
			}
			if i < 3 {
				l.want(event.Allowed, "http", "allowed.example.com", "")
				<-o.log
			} else {
				l.want(event.Blocked, "http", "allowed.example.com", event.AuthorityMismatch)
			}
		}
	}
	if n := len(o.log); n > 0 {
		t.Errorf("%d more requests reached the origin", n)
	}
}

// Every request that goes to a private address says so.
func TestPrivateOrigin(t *testing.T) {
	l := newLab(t, inAudit(anyPort()))
	l.answers["allowed.example.com"] = []netip.Addr{private}
	o := l.plain(private, script(ok, ok))
	conn := l.named("allowed.example.com", o.port)
	br := bufio.NewReader(conn)
	for range 2 {
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
		r, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, r.Body)
		if ev := l.next(); ev.Dialled.Addr() != private || !slices.Contains(ev.Flags, "private") {
			t.Errorf("%+v", ev)
		}
	}
}
