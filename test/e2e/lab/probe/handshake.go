package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// resplit changes how the first flight travels, not what it says: the
// handshake must still succeed.
type resplit struct {
	net.Conn
	o    *tlsFlags
	name string
	done bool
}

func (r *resplit) Write(b []byte) (int, error) {
	if r.done || len(b) < 6 || b[0] != 0x16 || b[5] != 1 {
		return r.Conn.Write(b)
	}
	r.done = true
	m := b[5:]
	cuts, err := r.o.cuts(m, r.name)
	if err != nil {
		return 0, err
	}
	if err := writeSlowly(r.Conn, records(m, 0x0301, cuts...), r.o.segment, r.o.delay); err != nil {
		return 0, err
	}
	return len(b), nil
}

// handshake is a real one, and GET /.
func (p *probe) handshake(addr string, o *tlsFlags) error {
	name, err := o.name(addr)
	if err != nil {
		return err
	}
	c, err := p.shake(addr, name, o)
	if err != nil {
		return err
	}
	defer c.Close()
	state := c.ConnectionState()
	p.say("%s sni=%q: handshake %s alpn=%q", addr, name, tls.VersionName(state.Version), state.NegotiatedProtocol)
	if state.NegotiatedProtocol == "h2" {
		return nil
	}
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name)
	answer, _ := io.ReadAll(io.LimitReader(c, 4096))
	p.say("%s", brief(answer))
	return nil
}

// handshakes are --count of them, --parallel at once.
func (p *probe) handshakes(addr string, o *tlsFlags) {
	results := make(map[string]int)
	var mu sync.Mutex
	each(make([]int, o.count), o.parallel, func(int) {
		name, err := o.name(addr)
		text := "handshake done"
		var c *tls.Conn
		if err == nil {
			c, err = p.shake(addr, name, o)
		}
		if err != nil {
			text = err.Error()
		} else {
			c.Close()
		}
		mu.Lock()
		defer mu.Unlock()
		results[text]++
	})
	p.say("%s: %d, %d at once: %v", addr, o.count, o.parallel, results)
}

func (p *probe) shake(addr, name string, o *tlsFlags) (*tls.Conn, error) {
	raw, err := p.dialWith(addr, o.mss)
	if err != nil {
		return nil, err
	}
	config := &tls.Config{ServerName: name}
	if o.alpn != "" {
		config.NextProtos = strings.Split(o.alpn, ",")
	}
	switch o.version {
	case "1.2":
		config.MaxVersion = tls.VersionTLS12
	case "1.3":
		config.MinVersion = tls.VersionTLS13
	}
	_ = raw.SetDeadline(time.Now().Add(max(p.timeout, o.wait)))
	c := tls.Client(&resplit{Conn: raw, o: o, name: name}, config)
	if err := c.Handshake(); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// dialWith dials with segments of at most mss bytes, 0: the kernel's choice.
func (p *probe) dialWith(addr string, mss int) (net.Conn, error) {
	d := net.Dialer{Timeout: p.timeout}
	if mss > 0 {
		d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
			inner := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, mss) })
			return errors.Join(err, inner)
		}
	}
	return d.Dial("tcp", addr)
}
