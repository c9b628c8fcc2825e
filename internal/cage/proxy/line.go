package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// maxResponseHead bounds all that an origin says before a response's body.
const maxResponseHead = 256 << 10

// maxInterim is how many responses with 1xx are passed over.
const maxInterim = 5

// line is a connection to an origin that carries requests without a body, one
// by one, on the goroutine of their client. http.Transport does the rest: it
// needs two goroutines for a connection and four switches for a request, which
// most of the requests of a build can do without.
type line struct {
	to     policy.Target
	addr   netip.AddrPort
	conn   *net.TCPConn
	br     *bufio.Reader
	limit  io.LimitedReader
	buf    bytes.Buffer
	forget func() bool // the end of the client's connection
}

// simple says that a request can go over a line: it asks for something, has no
// body and does not change the protocol, so that it can be repeated.
func simple(h *head, in *http.Request) bool {
	return (h.method == http.MethodGet || h.method == http.MethodHead) &&
		in.ContentLength == 0 && h.encodings == 0 && !h.upgrades() && in.Header.Get("Expect") == ""
}

// ask sends a simple request to the origin of t and returns the response. One
// that an idle connection did not answer at all is repeated on a new one.
func (x *exchange) ask(ev *event.Conn, out *http.Request, t policy.Target) (*http.Response, error) {
	if x.line != nil && x.line.to != t {
		x.hangUp()
	}
	for {
		used := x.line != nil
		if !used {
			if err := x.call(t); err != nil {
				return nil, err
			}
		}
		ev.Dialled = x.line.addr
		response, silent, err := x.line.exchange(out)
		if err == nil {
			return response, nil
		}
		x.hangUp()
		if !used || !silent || x.ctx.Err() != nil {
			return nil, err
		}
	}
}

// call connects to the origin of t.
func (x *exchange) call(t policy.Target) error {
	name := t.Name
	if t.Protocol == policy.IP {
		name = ""
	}
	conn, err := x.dial(name)
	if err != nil {
		return err
	}
	l := &line{to: t, addr: addrPort(conn.RemoteAddr()), conn: conn, limit: io.LimitedReader{R: conn}}
	l.br = bufio.NewReaderSize(&l.limit, readSize)
	l.forget = context.AfterFunc(x.ctx, func() {
		conn.SetLinger(0)
		conn.Close()
	})
	x.line = l
	return nil
}

// hangUp ends the line, if there is one.
func (x *exchange) hangUp() {
	if x.line != nil {
		x.line.forget()
		x.line.conn.Close()
		x.line = nil
	}
}

// settle keeps the line after a response where another request can follow on it.
func (x *exchange) settle(r *http.Response) {
	if x.line != nil && (!x.whole || r.Close || x.line.br.Buffered() > 0) {
		x.hangUp()
	}
}

// exchange sends a request and reads the head of its response. silent says
// that nothing of one came.
func (l *line) exchange(out *http.Request) (r *http.Response, silent bool, err error) {
	l.buf.Reset()
	if err := out.Write(&l.buf); err != nil {
		return nil, false, err
	}
	l.limit.N = maxResponseHead
	if _, err := l.conn.Write(l.buf.Bytes()); err != nil {
		return nil, true, err
	}
	if _, err := l.br.Peek(1); err != nil {
		return nil, true, err
	}
	for range maxInterim + 1 {
		r, err := http.ReadResponse(l.br, out)
		if err != nil {
			return nil, false, err
		}
		if r.StatusCode >= 200 || r.StatusCode == http.StatusSwitchingProtocols {
			l.limit.N = math.MaxInt64
			if r.ContentLength > 0 && out.Method != http.MethodHead {
				r.Body = &span{l, r.ContentLength}
			}
			return r, false, nil
		}
	}
	return nil, false, errors.New("too many interim responses")
}

// inHand is the length of a response's body where all of it has been read from
// the origin already, else 0.
func (x *exchange) inHand(r *http.Response) int64 {
	if x.line == nil || r.ContentLength > int64(x.line.br.Buffered()) {
		return 0
	}
	return max(0, r.ContentLength)
}
