package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/event"
)

// A request that ends in a bug of ours is in the record, whichever it is of its
// connection.
func TestCrashIsRecorded(t *testing.T) {
	l := newLab(t, anyPort(), func(s *proxy.Server) {
		lookup := s.Dialer.Lookup
		s.Dialer.Lookup = func(ctx context.Context, name string) ([]netip.Addr, error) {
			if name == "other.example.com" {
				panic(errScripted)
			}
			return lookup(ctx, name)
		}
	})
	o := l.http(nil, false)
	conn := l.named("allowed.example.com", o.port)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, r.Body)
	l.want(event.Allowed, "http", "allowed.example.com", "")
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: other.example.com\r\n\r\n")
	if ev := l.want(event.Blocked, "", "", event.Unclassified); !strings.Contains(ev.Detail, "panic") {
		t.Errorf("%+v", ev)
	}
	wasReset(t, conn)
	if n := l.server.Panics.Swap(0); n != 1 {
		t.Errorf("%d panics", n)
	}
}

// An origin can't end the status line before its end.
func TestStatusWithControlCharacters(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.plain(public, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 O\rX: y\x00K\r\nContent-Length: 2\r\n\r\nok")
	})
	answer := exchange(t, l.named("allowed.example.com", o.port), "GET / HTTP/1.1\r\nHost: allowed.example.com\r\nConnection: close\r\n\r\n")
	if want := "HTTP/1.1 200 O X: y K\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"; answer != want {
		t.Errorf("client got %q, want %q", answer, want)
	}
	l.want(event.Allowed, "http", "allowed.example.com", "")
}
