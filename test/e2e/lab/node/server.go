package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/buildcage/buildcage/test/e2e/lab/pki"
)

// server accepts every connection, finds out what it speaks, serves it, and
// counts it under its original destination.
type server struct {
	role   string
	count  *counter
	ca     *pki.Authority
	plain  *queue // to the HTTP server
	gate   *gate
	images http.Handler
}

func serveEverything(ctx context.Context, role string) error {
	ca, err := pki.New()
	if err != nil {
		return err
	}
	s := &server{role: role, count: newCounter(), ca: ca, plain: newQueue(), gate: newGate(), images: images()}
	if err := startSniffer("eth0", s.count); err != nil {
		return err
	}
	if err := catchEverything(); err != nil {
		return err
	}
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", catchPort))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	udp, err := net.ListenPacket("udp", fmt.Sprintf(":%d", catchPort))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	go echoPackets(udp)
	go func() { _ = s.http().Serve(s.plain) }()
	go s.accept(l)
	return control(ctx, s.count, map[string]http.HandlerFunc{"GET /waiting": s.gate.told, "POST /release": s.gate.release, "/v2/": s.images.ServeHTTP})
}

func (s *server) http() *http.Server {
	srv := &http.Server{
		Handler: http.HandlerFunc(s.serve), ConnContext: withConn,
		ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0), Protocols: &http.Protocols{},
	}
	srv.Protocols.SetHTTP1(true)
	srv.Protocols.SetHTTP2(true)
	srv.Protocols.SetUnencryptedHTTP2(true)
	return srv
}

func (s *server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go s.sort(c.(*net.TCPConn))
	}
}

// firstByte is how long a client that speaks first may take, on ports where
// servers may be the ones that do.
const firstByte = 300 * time.Millisecond

// sort hands a connection to whoever speaks its protocol.
func (s *server) sort(c *net.TCPConn) {
	orig := original(c)
	s.count.arrive("conn", "", orig, "", 0)
	conn := &conn{Conn: c, r: bufio.NewReader(c), orig: orig}
	if p := orig.Port(); p != 443 && p != 8443 && p != 80 && p != 8080 {
		_ = c.SetReadDeadline(time.Now().Add(firstByte))
	}
	first, err := conn.r.Peek(1)
	_ = c.SetReadDeadline(time.Time{})
	var late net.Error
	switch {
	case errors.As(err, &late) && late.Timeout():
		_, _ = io.WriteString(conn, "SSH-2.0-lab "+s.role+"\r\n")
		s.raw(conn)
	case err != nil:
		c.Close()
	case first[0] == 0x16:
		s.plain.put(tls.Server(conn, s.tls(orig)))
	case first[0] >= 'A' && first[0] <= 'Z':
		s.plain.put(conn)
	default:
		s.raw(conn)
	}
}

func (s *server) tls(orig netip.AddrPort) *tls.Config {
	return &tls.Config{
		NextProtos: []string{"h2", "http/1.1"},
		MinVersion: tls.VersionTLS10, //nolint:gosec // a test server, and a case may ask for it
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			s.count.arrive("tls", h.ServerName, orig, "", 0)
			name := h.ServerName
			if name == "" {
				name = orig.Addr().String()
			}
			return s.ca.Certificate(name)
		},
	}
}

// raw echoes, and counts what it echoed when the connection ends.
func (s *server) raw(c *conn) {
	defer c.Close()
	var n int64
	buf := make([]byte, 16<<10)
	for {
		k, err := c.Read(buf)
		n += int64(k)
		if k > 0 {
			s.count.arrive("raw", "", c.orig, "", int64(k))
			if _, err := c.Write(buf[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func echoPackets(udp net.PacketConn) {
	buf := make([]byte, 64<<10)
	for {
		n, from, err := udp.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = udp.WriteTo(buf[:n], from)
	}
}

// conn is a connection with its first bytes unread and its destination known.
type conn struct {
	net.Conn
	r    *bufio.Reader
	orig netip.AddrPort
}

func (c *conn) Read(b []byte) (int, error) { return c.r.Read(b) }

// queue is a listener that is handed its connections.
type queue struct {
	conns chan net.Conn
	done  chan struct{}
}

func newQueue() *queue { return &queue{conns: make(chan net.Conn), done: make(chan struct{})} }

func (q *queue) put(c net.Conn) {
	select {
	case q.conns <- c:
	case <-q.done:
		c.Close()
	}
}

func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

func (q *queue) Close() error   { close(q.done); return nil }
func (q *queue) Addr() net.Addr { return &net.TCPAddr{Port: catchPort} }
