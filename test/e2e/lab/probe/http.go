package main

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

// http sends each REQUEST (raw bytes, Go's escapes; @FILE reads a file, - reads
// standard input) and reads one response after each; with --pipeline it sends
// all of them in one write first.
func (p *probe) http(args []string) error {
	f := p.flags("http")
	overTLS := f.String("tls", "", "inside of TLS with this server name")
	pipeline := f.Bool("pipeline", false, "all requests in one write")
	segment := f.Int("segment", 0, "bytes a write")
	delay := f.Duration("delay", 2*time.Millisecond, "between writes, with --segment")
	half := f.Bool("half-close", false, "close our side after the last request")
	rest, err := parse(f, args, 2)
	if err != nil {
		return err
	}
	var requests [][]byte
	for _, text := range rest[1:] {
		b, err := payload(text)
		if err != nil {
			return err
		}
		requests = append(requests, b)
	}
	c, err := p.dial(rest[0])
	if err != nil {
		return err
	}
	defer c.Close()
	raw := c
	if *overTLS != "" {
		c = tls.Client(c, &tls.Config{ServerName: *overTLS})
	}
	r := bufio.NewReader(c)
	if *pipeline {
		var all []byte
		for _, b := range requests {
			all = append(all, b...)
		}
		if err := writeSlowly(c, all, *segment, *delay); err != nil {
			return err
		}
	}
	for i, b := range requests {
		if !*pipeline {
			if err := writeSlowly(c, b, *segment, *delay); err != nil {
				p.say("%d: write: %v", i+1, err)
			}
		}
		if t, ok := raw.(*net.TCPConn); ok && *half && i == len(requests)-1 {
			_ = t.CloseWrite()
		}
		_ = c.SetReadDeadline(time.Now().Add(p.timeout))
		if !p.response(i+1, r) {
			break
		}
	}
	p.extra(c, r)
	return nil
}

func payload(text string) ([]byte, error) {
	switch {
	case text == "-":
		return io.ReadAll(os.Stdin)
	case len(text) > 1 && text[0] == '@':
		b, err := os.ReadFile(text[1:])
		if err != nil {
			return nil, &fatalError{err}
		}
		return b, nil
	}
	s, err := unescape(text)
	return []byte(s), err
}

// response reads one response; interim ones are told and passed over.
func (p *probe) response(n int, r *bufio.Reader) bool {
	for {
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			p.say("%d: no response: %v", n, err)
			return false
		}
		body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
		res.Body.Close()
		p.say("%d: %s %s %s", n, res.Proto, res.Status, brief(body))
		if err != nil {
			p.say("%d: body: %v", n, err)
			return false
		}
		if res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols {
			return !res.Close
		}
	}
}

// extra tells of bytes that nobody asked for.
func (p *probe) extra(c net.Conn, r *bufio.Reader) {
	_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	if _, err := r.Peek(1); err != nil {
		p.say("end: %v", err)
		return
	}
	b, _ := r.Peek(r.Buffered())
	p.say("and then %s", brief(b))
}
