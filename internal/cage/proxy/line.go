package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"

	"golang.org/x/sys/unix"

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
	public bool // addr needs no flag
	limit  io.LimitedReader
	forget func() bool // the end of the client's connection
	next   [1]byte     // for quiet
}

// simple says that a request can go over a line: it asks for something, has no
// body and does not change the protocol, so that it can be repeated.
func simple(h *head, in *http.Request) bool {
	return (h.method == http.MethodGet || h.method == http.MethodHead) &&
		in.ContentLength == 0 && h.encodings == 0 && !h.upgrades() && in.Header.Get("Expect") == ""
}

// ask sends a request that can be repeated to the origin of t, whose response
// has begun when it returns without an error. One that an idle connection did
// not answer at all is repeated on a new one.
func (x *exchange) ask(ev *event.Conn, t policy.Target, request []byte) error {
	if x.last != (policy.Target{}) {
		x.transport.CloseIdleConnections()
		x.last = policy.Target{}
	}
	if x.line != nil && (x.line.to != t || !x.line.quiet()) {
		x.hangUp()
	}
	for {
		used := x.line != nil
		if !used {
			if err := x.call(t); err != nil {
				return err
			}
		}
		ev.Dialled = x.line.addr
		err := x.line.send(request)
		if err == nil {
			x.yield()
			err = x.line.begun()
		}
		if err == nil {
			return nil
		}
		x.hangUp()
		if !used || x.term.Err() != nil {
			return err
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
	l.public = !x.proxied && x.Dialer.Check(l.addr.Addr()) == policy.Public
	l.br = bufio.NewReaderSize(&l.limit, readSize)
	l.forget = context.AfterFunc(&x.term, func() {
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
func (x *exchange) settle(closes bool) {
	if x.line != nil && (!x.whole || closes || x.line.br.Buffered() > 0) {
		x.hangUp()
	}
}

// quiet says that the origin has not said anything since its last response, nor
// hung up. What servers say that get tired of waiting, or behind a response, is
// not the response to the next request.
func (l *line) quiet() bool {
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return false
	}
	controlled := raw.Control(func(fd uintptr) { _, err = peekNow(int(fd), l.next[:]) })
	return controlled == nil && errors.Is(err, unix.EAGAIN)
}

// send sends a request.
func (l *line) send(request []byte) error {
	l.limit.N = maxResponseHead
	_, err := l.conn.Write(request)
	return err
}

// begun waits for the first byte of a response.
func (l *line) begun() error {
	_, err := l.br.Peek(1)
	return err
}

// read reads the head of a response into s, and leaves the bytes where they
// are. It returns false for one that response has to read.
func (l *line) read(s *status, method string) bool {
	for {
		b, _ := l.br.Peek(l.br.Buffered())
		fits, more := s.scan(b)
		if !more {
			l.limit.N = math.MaxInt64
			return fits && (s.length >= 0 || bodiless(method, s.code))
		}
		if _, err := l.br.Peek(len(b) + 1); err != nil { // also where there is no room
			return false
		}
	}
}

// response reads the head of a response to a request of the given method.
func (l *line) response(method string) (*http.Response, error) {
	l.limit.N = maxResponseHead
	for range maxInterim + 1 {
		r, err := http.ReadResponse(l.br, &http.Request{Method: method})
		if err != nil {
			return nil, err
		}
		if r.StatusCode >= 200 || r.StatusCode == http.StatusSwitchingProtocols {
			l.limit.N = math.MaxInt64
			if r.ContentLength > 0 && method != http.MethodHead {
				r.Body = &span{l, r.ContentLength}
			}
			return r, nil
		}
	}
	return nil, errors.New("too many interim responses")
}

// inHand is the length of a response's body where all of it has been read from
// the origin already, else 0.
func (x *exchange) inHand(r *http.Response) int64 {
	if x.line == nil || r.ContentLength > int64(x.line.br.Buffered()) {
		return 0
	}
	return max(0, r.ContentLength)
}
