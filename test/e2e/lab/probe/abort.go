package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// abort begins a connection and leaves it: rst, fin and half end it by a
// reset, both sides or ours; kill dies with it open.
func (p *probe) abort(args []string) error {
	f := p.flags("abort")
	how := f.String("how", "rst", "rst, fin, half or kill")
	after := f.Duration("after", 0, "between the last byte and the end")
	send := f.String("send", "", "bytes, Go's escapes (default: a ClientHello for HOST)")
	read := f.Bool("read", false, "wait for the first byte of the answer before the end")
	cut := f.Int("cut", -1, "send only the first N bytes")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	for _, addr := range rest {
		if err := p.leave(addr, *how, *send, *cut, *read, *after); err != nil {
			p.say("%s: %v", addr, err)
		}
	}
	return nil
}

func (p *probe) leave(addr, how, send string, cut int, read bool, after time.Duration) error {
	var b []byte
	if send == "" {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return err
		}
		o := &tlsFlags{truncate: -1}
		b = records(o.hello(host, 1).message(), 0x0301)
	} else {
		text, err := unescape(send)
		if err != nil {
			return err
		}
		b = []byte(text)
	}
	if cut >= 0 {
		b = b[:min(cut, len(b))]
	}
	conn, err := p.dial(addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	c, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("no TCP connection")
	}
	if _, err := c.Write(b); err != nil {
		return err
	}
	if read {
		_ = c.SetReadDeadline(time.Now().Add(p.timeout))
		_, _ = io.ReadFull(c, make([]byte, 1))
	}
	time.Sleep(after)
	p.say("%s: %s", addr, how)
	switch how {
	case "rst":
		return c.SetLinger(0)
	case "half":
		_ = c.CloseWrite()
		_ = c.SetReadDeadline(time.Now().Add(p.timeout))
		_, _ = io.Copy(io.Discard, c)
	case "kill":
		return unix.Kill(os.Getpid(), unix.SIGKILL)
	}
	return nil
}

// noise sends names and paths of random bytes, most of them no UTF-8, the same
// ones for the same seed.
func (p *probe) noise(args []string) error {
	f := p.flags("noise")
	n := f.Int("n", 100, "how many")
	seed := f.Uint64("seed", 1, "of the bytes")
	parallel := f.Int("parallel", 32, "at once")
	size := f.Int("size", 12, "random bytes in each")
	name := f.String("name", "blocked.test", "what the request with a random path is for")
	rest, err := parse(f, args, 2)
	if err != nil {
		return err
	}
	kind, addr := rest[0], rest[1]
	r := rand.New(rand.NewPCG(*seed, 4)) //nolint:gosec // reproducible on purpose
	list := make([][]byte, *n)
	for i := range list {
		for range *size {
			list[i] = append(list[i], byte(0x80+r.IntN(0x80)))
		}
	}
	each(list, *parallel, func(b []byte) {
		var m []byte
		switch kind {
		case "tls":
			h := (&tlsFlags{}).hello("", 1)
			h.names = [][]byte{append(b, ".allowed.test"...)}
			m = records(h.message(), 0x0301)
		case "host":
			m = fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s.allowed.test\r\nConnection: close\r\n\r\n", b)
		default:
			m = fmt.Appendf(nil, "GET /%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", b, *name)
		}
		p.drain(addr, m)
	})
	p.say("%d × %s to %s", *n, kind, addr)
	return nil
}

// drain sends and reads to the end.
func (p *probe) drain(addr string, b []byte) {
	c, err := p.dial(addr)
	if err != nil {
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(p.timeout))
	if _, err := c.Write(b); err == nil {
		_, _ = io.Copy(io.Discard, c)
	}
}
