package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/policy"
)

// company is a proxy that answers CONNECT with what it is told to.
func company(t *testing.T, answer string) (port uint16, asked <-chan *http.Request) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	requests := make(chan *http.Request, 8)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r, err := http.ReadRequest(bufio.NewReader(c))
				if err != nil {
					return
				}
				requests <- r
				_, _ = io.WriteString(c, answer)
				_, _ = io.Copy(io.Discard, c) // until the client has read it all
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String()).Port(), requests
}

func viaDialer(t *testing.T, proxy, except string, looked *[]string) *Dialer {
	t.Helper()
	via, err := NewVia(proxy, except)
	if err != nil {
		t.Fatal(err)
	}
	return &Dialer{
		Via:   via,
		Check: func(netip.Addr) policy.Class { return policy.Private },
		Lookup: func(_ context.Context, name string) ([]netip.Addr, error) {
			*looked = append(*looked, name)
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		},
	}
}

func forbidden(netip.Addr) bool { return false }

func port(n uint16) string {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), n).String()[len("0.0.0.0"):]
}

func TestVia(t *testing.T) {
	at, asked := company(t, "HTTP/1.1 200 Connection established\r\nX: y\r\n\r\nbanner")
	var looked []string
	d := viaDialer(t, "http://user:p%40ss@proxy.test"+port(at), "direct.test,192.0.2.0/24", &looked)
	conn, err := d.Dial(t.Context(), "origin.test", 22, forbidden)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	r := <-asked
	if r.Method != http.MethodConnect || r.Host != "origin.test:22" || r.Header.Get("Proxy-Authorization") != "Basic dXNlcjpwQHNz" {
		t.Errorf("asked %s %s %v", r.Method, r.Host, r.Header)
	}
	if len(looked) != 1 || looked[0] != "proxy.test" {
		t.Errorf("looked up %v: the name of the origin is the other proxy's to resolve", looked)
	}
	// What the origin says first is the client's.
	conn.CloseWrite()
	if got, err := io.ReadAll(conn); string(got) != "banner" || err != nil {
		t.Errorf("read %q, %v", got, err)
	}
	if raw, err := d.DialAddr(t.Context(), netip.MustParseAddrPort("203.0.113.9:443")); err != nil {
		t.Error(err)
	} else if raw.Close(); (<-asked).Host != "203.0.113.9:443" {
		t.Error("the raw address was not asked for")
	}
	for host, want := range map[string]bool{"direct.test": false, "a.direct.test": false, "indirect.test": true, "192.0.2.7": false, "192.0.3.7": true} {
		if got := d.Proxied(host, 443); got != want {
			t.Errorf("%s: proxied %t", host, got)
		}
	}
}

func TestViaRefuses(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 403 Forbidden\r\n\r\n":                       "the upstream proxy answered 403 Forbidden",
		"HTTP/1.1 407 \x1b[31mWho\r\n\r\n":                     "the upstream proxy answered 407",
		"nonsense\r\n\r\n":                                     "asking the upstream proxy",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 9<<10):  "its answer is too long",
		"HTTP/1.1 200 OK\r\nA: b\r\nContent-Length: 1\r\n":     "", // never ends: the caller does
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n": "answered 100",
	} {
		at, _ := company(t, answer)
		var looked []string
		d := viaDialer(t, "http://proxy.test"+port(at), "", &looked)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		conn, err := d.Dial(ctx, "origin.test", 443, forbidden)
		cancel()
		if err == nil {
			conn.Close()
			t.Errorf("%.40q: connected", answer)
		} else if !strings.Contains(err.Error(), want) || want == "" && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%.40q: %v", answer, err)
		}
	}
}

// TestViaIsGuarded: even the proxy is no way to a guarded address.
func TestViaIsGuarded(t *testing.T) {
	at, asked := company(t, "HTTP/1.1 200 OK\r\n\r\n")
	var looked []string
	d := viaDialer(t, "http://proxy.test"+port(at), "", &looked)
	d.Check = func(netip.Addr) policy.Class { return policy.Self }
	_, err := d.Dial(t.Context(), "origin.test", 443, forbidden)
	var guard *GuardError
	if !errors.As(err, &guard) {
		t.Errorf("dialled a proxy at a guarded address: %v", err)
	}
	if _, err := d.DialAddr(t.Context(), netip.MustParseAddrPort("169.254.169.254:80")); !errors.As(err, &guard) {
		t.Errorf("asked for a guarded address: %v", err)
	}
	if len(asked) > 0 {
		t.Error("the proxy was asked")
	}
}

func TestNewViaRefuses(t *testing.T) {
	for _, text := range []string{"", "proxy.test:3128", "https://proxy.test", "socks5://proxy.test", "http://", "http://proxy.test:0", "http://proxy.test:99999"} {
		if v, err := NewVia(text, ""); err == nil {
			t.Errorf("%q: %+v", text, v)
		}
	}
}
