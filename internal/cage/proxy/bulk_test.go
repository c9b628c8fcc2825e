package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/event"
)

// large answers the requests of a connection with whole, in pieces of all
// sizes, of which it sends so many bytes.
func large(whole []byte, sent int) func(net.Conn) {
	return func(c net.Conn) {
		br := bufio.NewReader(c)
		for {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(whole))
			for rest, piece := whole[:sent], 1; len(rest) > 0; piece = 3*piece + 1 {
				n, err := c.Write(rest[:min(piece, len(rest))])
				if err != nil {
					return
				}
				rest = rest[n:]
			}
			if sent < len(whole) {
				return
			}
		}
	}
}

func random(t *testing.T, size int) []byte {
	t.Helper()
	b := make([]byte, size)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// A large body arrives as it was sent and is counted, with a pipe to be had or
// without; the next response is found behind it.
func TestLargeResponse(t *testing.T) {
	whole := random(t, 9<<20+7)
	for _, pipes := range []int{-1, 1, 128} {
		l := newLab(t, anyPort(), func(s *proxy.Server) { s.Limits.Pipes = pipes })
		o := l.plain(public, large(whole, len(whole)))
		conn := l.named("allowed.example.com", o.port)
		br := bufio.NewReader(conn)
		for i := range 3 {
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
			r, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(r.Body); err != nil || !bytes.Equal(b, whole) {
				t.Errorf("%d pipes: response %d: %d bytes, %v", pipes, i, len(b), err)
			}
			if ev := l.want(event.Allowed, "http", "allowed.example.com", ""); ev.Down <= int64(len(whole)) || ev.Down > int64(len(whole))+100 {
				t.Errorf("%d pipes: %d bytes down", pipes, ev.Down)
			}
		}
		if n := o.conns.Load(); n != 1 {
			t.Errorf("%d pipes: %d connections to the origin", pipes, n)
		}
	}
}

// One that breaks off in the middle of much does not look whole.
func TestLargeResponseBreaksOff(t *testing.T) {
	whole := make([]byte, 8<<20)
	l := newLab(t, anyPort())
	o := l.plain(public, large(whole, 5<<20))
	conn := l.named("allowed.example.com", o.port)
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
	if b, err := io.ReadAll(conn); err == nil {
		t.Errorf("%d bytes look whole", len(b))
	}
	l.want(event.Failed, "http", "allowed.example.com", event.UpstreamError)
}

// A client that goes, and one that does not read, end in the record as they do
// where bytes are copied.
func TestLargeResponseUnread(t *testing.T) {
	for title, c := range map[string]struct {
		after  func(*net.TCPConn)
		reason event.Reason
		detail string
	}{
		"gone":   {func(c *net.TCPConn) { c.SetLinger(0); c.Close() }, "", "client closed"},
		"silent": {func(*net.TCPConn) {}, event.Idle, ""},
	} {
		t.Run(title, func(t *testing.T) {
			l := newLab(t, anyPort(), func(s *proxy.Server) { s.Limits.Idle = 400 * time.Millisecond })
			o := l.plain(public, large(make([]byte, 64<<20), 64<<20))
			conn := l.named("allowed.example.com", o.port)
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
			if _, err := io.ReadFull(conn, make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			c.after(conn)
			ev := l.want(event.Allowed, "http", "allowed.example.com", c.reason)
			if ev.Down < 1<<20 || c.detail != "" && ev.Detail != c.detail {
				t.Errorf("%+v", ev)
			}
		})
	}
}
