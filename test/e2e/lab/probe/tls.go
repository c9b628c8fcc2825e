package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"
)

func (p *probe) tls(args []string) error {
	var o tlsFlags
	f := p.flags("tls")
	o.register(f)
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	for _, addr := range rest {
		switch {
		case o.handshake && o.count > 1:
			p.handshakes(addr, &o)
		case o.handshake:
			err = p.handshake(addr, &o)
		default:
			err = p.sendHello(addr, &o)
		}
		var fatal *fatalError
		if errors.As(err, &fatal) {
			return err
		}
		if err != nil {
			p.say("%s: %v", addr, err)
		}
	}
	return nil
}

func (p *probe) sendHello(addr string, o *tlsFlags) error {
	name, err := o.name(addr)
	if err != nil {
		return err
	}
	var flights [][]byte
	for i := range max(o.mutations, 1) {
		b, err := o.flight(name, o.seed+uint64(i))
		if err != nil {
			return err
		}
		flights = append(flights, b)
	}
	each(flights, o.parallel, func(b []byte) {
		answer, err := p.exchange(addr, b, o)
		if err != nil {
			answer = err.Error()
		}
		p.say("%s sni=%q: %s", addr, name, answer)
	})
	return nil
}

// exchange sends bytes and says what came back.
func (p *probe) exchange(addr string, b []byte, o *tlsFlags) (string, error) {
	c, err := p.dialWith(addr, o.mss)
	if err != nil {
		return "", err
	}
	defer c.Close()
	start := time.Now()
	writeErr := writeSlowly(c, b, o.segment, o.delay)
	wait := o.wait
	if wait == 0 {
		wait = p.timeout
	}
	_ = c.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, 4096)
	n, err := io.ReadAtLeast(c, buf, 1)
	took := time.Since(start).Round(time.Millisecond)
	switch {
	case n >= 7 && buf[0] == 0x15:
		return fmt.Sprintf("alert %d %d after %v", buf[5], buf[6], took), nil
	case n > 0 && buf[0] == 0x16:
		return fmt.Sprintf("server hello after %v", took), nil
	case n > 0:
		return fmt.Sprintf("answer %s after %v", brief(buf[:n]), took), nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no answer in %v", took), nil
	}
	return fmt.Sprintf("closed after %v (%v, %v)", took, err, writeErr), nil
}

func writeSlowly(w io.Writer, b []byte, size int, delay time.Duration) error {
	if size <= 0 {
		_, err := w.Write(b)
		return err
	}
	for piece := range slices.Chunk(b, size) {
		if _, err := w.Write(piece); err != nil {
			return err
		}
		time.Sleep(delay)
	}
	return nil
}
