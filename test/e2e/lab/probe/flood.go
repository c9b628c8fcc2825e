package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// flood is many of one kind.
//
//	tcp    connect, send, hold
//	slow   connect, send (default: G), then one byte a second while held
//	tls    a ClientHello for the server name that --send is; port 0 is another one each time
//	dns    look up NUMBER.HOST
//	query  the same without waiting for answers
//	udp    one packet
type flood struct {
	n, parallel, fill int
	hold              time.Duration
	send              string
}

// flood makes many of one kind and tells how they fared. The name is looked
// up once, so that what is flooded is not the nameserver.
func (p *probe) flood(args []string) error {
	var o flood
	f := p.flags("flood")
	f.IntVar(&o.n, "n", 1000, "how many")
	f.IntVar(&o.parallel, "parallel", 100, "at once")
	f.IntVar(&o.fill, "fill", 0, "send N bytes of filling behind --send")
	f.DurationVar(&o.hold, "hold", 0, "keep each open")
	send := f.String("send", "", "bytes that each sends, Go's escapes; %d is its number")
	rest, err := parse(f, args, 2)
	if err != nil {
		return err
	}
	if o.send, err = unescape(*send); err != nil {
		return err
	}
	kind, addr := rest[0], rest[1]
	switch kind {
	case "query":
		return p.queries(addr, o.n, o.parallel)
	case "dns":
	default:
		to, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			return err
		}
		addr = to.String()
	}
	results := make(map[string]int)
	var mu sync.Mutex
	numbers := make([]int, o.n)
	for i := range numbers {
		numbers[i] = i
	}
	start := time.Now()
	each(numbers, o.parallel, func(i int) {
		r := p.one(kind, addr, i, &o)
		mu.Lock()
		defer mu.Unlock()
		results[r]++
	})
	p.say("%d in %v: %v", o.n, time.Since(start).Round(time.Millisecond), results)
	return nil
}

func (p *probe) one(kind, addr string, i int, o *flood) string {
	text := strings.ReplaceAll(o.send, "%d", strconv.Itoa(i))
	switch kind {
	case "tls":
		host, port, _ := net.SplitHostPort(addr)
		if port == "0" {
			addr = net.JoinHostPort(host, strconv.Itoa(1024+i%60000))
		}
		t := &tlsFlags{truncate: -1}
		answer, err := p.exchange(addr, records(t.hello(text, uint64(i)).message(), 0x0301), t)
		if err != nil {
			return "refused"
		}
		answer, _, _ = strings.Cut(answer, " after")
		return answer
	case "tcp", "slow":
		return p.held(kind, addr, text, o)
	case "dns":
		_, err := net.LookupHost(fmt.Sprintf("%d.%s", i, addr))
		if err != nil {
			return "failed"
		}
		return "answered"
	case "udp":
		c, err := net.Dial("udp", addr)
		if err != nil {
			return "refused"
		}
		defer c.Close()
		if _, err := io.WriteString(c, text+"x"); err != nil {
			return "refused"
		}
		return "sent"
	}
	return "unknown kind"
}

// held tells whether a connection could be made and kept.
func (p *probe) held(kind, addr, text string, o *flood) string {
	c, err := p.dial(addr)
	if err != nil {
		return "refused"
	}
	defer c.Close()
	if kind == "slow" && text == "" {
		text = "G"
	}
	if _, err := c.Write(append([]byte(text), bytes.Repeat([]byte("a"), o.fill)...)); err != nil {
		return "closed"
	}
	for end := time.Now().Add(o.hold); time.Now().Before(end); {
		time.Sleep(min(time.Second, time.Until(end)))
		if kind != "slow" {
			continue
		}
		if _, err := io.WriteString(c, "G"); err != nil {
			return "closed"
		}
	}
	if kind == "tcp" && o.hold > 0 && ended(c) {
		return "closed"
	}
	return "held"
}

// ended says that the other side has closed or reset a connection.
func ended(c net.Conn) bool {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return true
	}
	over := false
	err = raw.Read(func(fd uintptr) bool {
		n, _, err := unix.Recvfrom(int(fd), make([]byte, 1), unix.MSG_PEEK|unix.MSG_DONTWAIT)
		over = n == 0 && err == nil || err != nil && err != unix.EAGAIN
		return true
	})
	return over || err != nil
}
