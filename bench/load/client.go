package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Run does a task. A task of kind hold writes its result when all connections
// are open, and keeps them until in ends.
func Run(t Task, in io.Reader, report func(Result) error) error {
	c := &client{Task: t, open: make(map[int]*flight)}
	var err error
	if c.poll, err = newPoll(); err != nil {
		return err
	}
	if t.Kind == "first" {
		return report(c.first())
	}
	if t.Resolver.IsValid() {
		if c.To, err = resolve(t.Resolver, t.Name); err != nil {
			return err
		}
	}
	if err := c.prepare(); err != nil {
		return err
	}
	if err := report(c.run()); err != nil || t.Kind != "hold" {
		return err
	}
	_, err = io.Copy(io.Discard, in)
	return err
}

type client struct {
	Task
	poll    *poll
	to      netip.AddrPort
	opening []byte // what a connection begins with
	buf     []byte
	open    map[int]*flight
	took    []time.Duration
	Result
}

// flight is one connection, or one request on it.
type flight struct {
	began  time.Time
	sent   bool
	answer bool // its first byte has come
	head   []byte
	left   int64 // of a body
}

func (c *client) prepare() error {
	c.buf = make([]byte, 1<<20)
	ports := map[string]uint16{"connect": PortEcho, "stream": PortStream, "hold": PortHold, "http": PortHTTP}
	port, ok := ports[c.Kind]
	if !ok {
		return fmt.Errorf("there is no task %q", c.Kind)
	}
	c.to = netip.AddrPortFrom(c.To, port)
	if c.Kind == "http" {
		c.opening = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", c.Path, c.Name)
		return nil
	}
	var err error
	c.opening, err = hello(c.Name)
	return err
}

// run keeps Clients connections going.
func (c *client) run() Result {
	start := time.Now()
	end := start.Add(c.Time)
	begun := 0
	for time.Now().Before(end) && c.Failed < 100 {
		for begun < c.Clients && len(c.open) < c.Clients && begun-c.answered() < 256 {
			c.dial()
			begun++
		}
		if c.Kind == "hold" && c.Count+c.Failed >= c.Clients {
			break
		}
		events, err := c.poll.wait(min(time.Until(end), 50*time.Millisecond))
		if err != nil {
			c.fail(err)
			break
		}
		for _, e := range events {
			c.event(int(e.Fd))
		}
	}
	c.Seconds = time.Since(start).Seconds()
	c.spread(c.took)
	return c.Result
}

func (c *client) answered() int {
	if c.Kind == "hold" {
		return c.Count + c.Failed
	}
	return c.Clients
}

func (c *client) dial() {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		c.fail(fmt.Errorf("opening a socket: %w", err))
		return
	}
	c.open[fd] = &flight{began: time.Now()}
	if err := connect(fd, c.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		c.lost(fd, fmt.Errorf("connecting: %w", err))
		return
	}
	if err := c.poll.add(fd, unix.EPOLLOUT); err != nil {
		c.lost(fd, err)
	}
}

func (c *client) lost(fd int, err error) {
	c.fail(err)
	c.done(fd)
}

// done closes and, where connections are what counts, begins another.
func (c *client) done(fd int) {
	hangUp(fd)
	delete(c.open, fd)
	if c.Kind == "connect" {
		c.dial()
	}
}

func (c *client) event(fd int) {
	f := c.open[fd]
	if f == nil {
		return
	}
	if !f.sent {
		if n, err := write(fd, c.opening); err != nil || n < len(c.opening) {
			c.lost(fd, fmt.Errorf("sending %d bytes: %w", n, err))
			return
		}
		f.sent = true
		if err := c.poll.change(fd, unix.EPOLLIN); err != nil {
			c.lost(fd, err)
		}
		return
	}
	switch c.Kind {
	case "http":
		c.response(fd, f)
	case "stream":
		// Nothing is copied: the kernel throws the bytes away.
		n, err := discard(fd, c.buf)
		if n <= 0 && !errors.Is(err, unix.EAGAIN) {
			c.lost(fd, fmt.Errorf("the stream ended: %w", err))
			return
		}
		c.Bytes += int64(max(n, 0))
	default:
		c.byte(fd, f)
	}
}

// byte takes the one byte, and then the end.
func (c *client) byte(fd int, f *flight) {
	n, err := read(fd, c.buf[:16])
	switch {
	case n > 0:
		f.answer = true
		c.took = append(c.took, time.Since(f.began))
		if c.Kind == "hold" {
			c.Count++
		}
	case n == 0 && f.answer && c.Kind == "connect":
		c.Count++
		c.done(fd)
	case !errors.Is(err, unix.EAGAIN):
		c.lost(fd, fmt.Errorf("waiting for the answer: %d bytes, %w", n, err))
	}
}

func (c *client) response(fd int, f *flight) {
	if f.left > 0 {
		n, err := discard(fd, c.buf[:min(int64(len(c.buf)), f.left)])
		if n <= 0 && !errors.Is(err, unix.EAGAIN) {
			c.lost(fd, fmt.Errorf("the response broke off: %w", err))
			return
		}
		f.left -= int64(max(n, 0))
		c.Bytes += int64(max(n, 0))
	} else {
		n, err := read(fd, c.buf[:4<<10])
		if n <= 0 {
			c.lost(fd, fmt.Errorf("waiting for a response: %w", err))
			return
		}
		f.head = append(f.head, c.buf[:n]...)
		i := bytes.Index(f.head, []byte("\r\n\r\n"))
		if i < 0 {
			return
		}
		if !bytes.HasPrefix(f.head, []byte("HTTP/1.1 200")) {
			c.lost(fd, fmt.Errorf("got %.200q", f.head))
			return
		}
		body := int64(len(f.head) - i - 4)
		f.left = length(f.head[:i+2]) - body
		f.head = f.head[:0]
		c.Bytes += body
	}
	if f.left == 0 {
		c.again(fd, f)
	}
}

// again sends the next request on the same connection.
func (c *client) again(fd int, f *flight) {
	c.Count++
	c.took = append(c.took, time.Since(f.began))
	f.began = time.Now()
	if _, err := write(fd, c.opening); err != nil {
		c.lost(fd, fmt.Errorf("sending a request: %w", err))
	}
}

func length(head []byte) int64 {
	_, rest, _ := bytes.Cut(bytes.ToLower(head), []byte("content-length: "))
	value, _, _ := bytes.Cut(rest, []byte("\r\n"))
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// first times what a first connection to a new name takes, one after the other.
func (c *client) first() Result {
	start := time.Now()
	for i := 0; time.Since(start) < c.Time && c.Failed < 10; i++ {
		name := fmt.Sprintf("n%d-%d.%s", start.UnixNano()/1000, i, c.Name)
		greeting, err := hello(name)
		if err != nil {
			c.fail(err)
			break
		}
		began := time.Now()
		if err := reach(c.Resolver, name, greeting); err != nil {
			c.fail(err)
			continue
		}
		c.Count++
		c.took = append(c.took, time.Since(began))
	}
	c.Seconds = time.Since(start).Seconds()
	c.spread(c.took)
	return c.Result
}

func reach(resolver netip.AddrPort, name string, greeting []byte) error {
	to, err := resolve(resolver, name)
	if err != nil {
		return err
	}
	conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(to, PortEcho).String(), 5*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(greeting); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

func resolve(server netip.AddrPort, name string) (netip.Addr, error) {
	q := new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA)
	r, _, err := (&dns.Client{Timeout: 5 * time.Second}).Exchange(q, server.String())
	if err != nil {
		return netip.Addr{}, fmt.Errorf("asking for %s: %w", name, err)
	}
	for _, rr := range r.Answer {
		if a, ok := rr.(*dns.A); ok {
			addr, _ := netip.AddrFromSlice(a.A.To4())
			return addr, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("asking for %s: no address", name)
}
