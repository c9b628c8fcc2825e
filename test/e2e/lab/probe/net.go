package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// targets expands HOST:PORT,PORT and HOST:FROM-TO.
func targets(text string) ([]string, error) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return nil, fatalf("%q has no port", text)
	}
	var list []string
	for part := range strings.SplitSeq(text[i+1:], ",") {
		first, last, ranged := strings.Cut(part, "-")
		from, err := strconv.Atoi(first)
		to := from
		if ranged && err == nil {
			to, err = strconv.Atoi(last)
		}
		if err != nil || to-from > 70000 {
			return nil, fatalf("ports %q", part)
		}
		for n := from; n <= to; n++ {
			list = append(list, text[:i]+":"+strconv.Itoa(n))
		}
	}
	return list, nil
}

func (p *probe) tcp(args []string) error {
	f := p.flags("tcp")
	send := f.String("send", "", "bytes to send, Go's escapes")
	hold := f.Duration("hold", 0, "keep the connection open")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	b, err := unescape(*send)
	if err != nil {
		return err
	}
	for _, text := range rest {
		list, err := targets(text)
		if err != nil {
			return err
		}
		for _, addr := range list {
			p.say("%s: %s", addr, p.connect(addr, b, *hold))
		}
	}
	return nil
}

func (p *probe) connect(addr, send string, hold time.Duration) string {
	start := time.Now()
	c, err := p.dial(addr)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	text := fmt.Sprintf("connected after %v", time.Since(start).Round(time.Millisecond))
	if send != "" {
		if _, err := io.WriteString(c, send); err != nil {
			return text + ", " + err.Error()
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(min(p.timeout, time.Second)))
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	switch {
	case n > 0:
		text += ", got " + brief(buf[:n])
	case errors.Is(err, os.ErrDeadlineExceeded):
		text += ", no answer"
	default:
		text += ", " + fmt.Sprint(err)
	}
	time.Sleep(hold)
	return text
}

func (p *probe) scan(args []string) error {
	f := p.flags("scan")
	ports := f.String("ports", "1-1024,2375,2376,5353,8080,8443,9090,15001", "ports")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	for _, host := range rest {
		if a, err := netip.ParseAddr(host); err == nil && a.Is6() {
			host = "[" + host + "]"
		}
		list, err := targets(host + ":" + *ports)
		if err != nil {
			return err
		}
		var open []string
		var mu sync.Mutex
		each(list, 64, func(addr string) {
			if c, err := p.dial(addr); err == nil {
				c.Close()
				mu.Lock()
				defer mu.Unlock()
				open = append(open, addr)
			}
		})
		p.say("%s: %d of %d ports answer: %v", host, len(open), len(list), open)
	}
	return nil
}

// each calls f for every item, n at once.
func each[T any](list []T, n int, f func(T)) {
	items := make(chan T)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for item := range items {
				f(item)
			}
		})
	}
	for _, item := range list {
		items <- item
	}
	close(items)
	all.Wait()
}
