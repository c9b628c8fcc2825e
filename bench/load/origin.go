package load

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

// Origin serves all ports and names until it is killed. Every name has the
// address self. ready is called when it listens.
func Origin(self netip.Addr, ready func()) error {
	if err := names(self); err != nil {
		return err
	}
	o := &origin{poll: nil, open: make(map[int]*served), listeners: make(map[int]int)}
	var err error
	if o.poll, err = newPoll(); err != nil {
		return err
	}
	if o.file, err = unix.MemfdCreate("origin", unix.MFD_CLOEXEC); err != nil {
		return fmt.Errorf("making the origin's bytes: %w", err)
	}
	block := make([]byte, 1<<20)
	for range LargeSize / len(block) {
		if _, err := unix.Write(o.file, block); err != nil {
			return fmt.Errorf("making the origin's bytes: %w", err)
		}
	}
	for _, port := range []int{PortHTTP, PortEcho, PortStream, PortHold} {
		if err := o.listen(port); err != nil {
			return fmt.Errorf("listening on %d: %w", port, err)
		}
	}
	ready()
	return o.run()
}

// names answers every question for an IPv4 address, and has no other.
func names(self netip.Addr) error {
	pc, err := net.ListenPacket("udp", ":53")
	if err != nil {
		return fmt.Errorf("listening for questions: %w", err)
	}
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			r.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: self.AsSlice(),
			}}
		}
		_ = w.WriteMsg(r) // who asked may be gone
	})}
	go func() { _ = server.ActivateAndServe() }()
	return nil
}

type origin struct {
	buf       [8 << 10]byte
	poll      *poll
	file      int // LargeSize bytes in memory
	listeners map[int]int
	open      map[int]*served
}

// served is one connection.
type served struct {
	port int
	head []byte // of an HTTP request, as far as it has come
	left int64  // of a body that is being sent; < 0: without end
	off  int64
}

func (o *origin) listen(port int) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: port}); err != nil {
		return err
	}
	if err := unix.Listen(fd, 8192); err != nil {
		return err
	}
	o.listeners[fd] = port
	return o.poll.add(fd, unix.EPOLLIN)
}

func (o *origin) run() error {
	for {
		events, err := o.poll.wait(time.Second)
		if err != nil {
			return err
		}
		for _, e := range events {
			fd := int(e.Fd)
			if port, ok := o.listeners[fd]; ok {
				o.accept(fd, port)
				continue
			}
			if c := o.open[fd]; c != nil && !o.serve(fd, c, e.Events) {
				delete(o.open, fd)
				hangUp(fd)
			}
		}
	}
}

func (o *origin) accept(listener, port int) {
	for range 64 {
		fd, err := accept(listener)
		if err != nil {
			return
		}
		if o.poll.add(fd, unix.EPOLLIN) != nil {
			hangUp(fd)
			continue
		}
		o.open[fd] = &served{port: port}
	}
}

// serve reports whether the connection goes on.
func (o *origin) serve(fd int, c *served, events uint32) bool {
	if events&unix.EPOLLOUT != 0 || c.left != 0 {
		return o.send(fd, c)
	}
	b := o.buf[:]
	n, err := read(fd, b)
	if n <= 0 {
		return errors.Is(err, unix.EAGAIN)
	}
	switch c.port {
	case PortStream:
		c.left = -1
		return o.poll.change(fd, unix.EPOLLOUT) == nil
	case PortHTTP:
		return o.request(fd, c, b[:n])
	}
	_, err = write(fd, []byte{1})
	return err == nil && c.port == PortHold
}

// request answers when a request is complete; clients send one at a time.
func (o *origin) request(fd int, c *served, more []byte) bool {
	c.head = append(c.head, more...)
	if !bytes.HasSuffix(c.head, []byte("\r\n\r\n")) {
		return true
	}
	path := strings.SplitN(string(c.head[:min(len(c.head), 64)]), " ", 3)
	c.head = c.head[:0]
	if len(path) < 2 {
		return false
	}
	if path[1] == Large {
		c.left, c.off = LargeSize, 0
		head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", LargeSize)
		_, err := write(fd, []byte(head))
		return err == nil && o.poll.change(fd, unix.EPOLLOUT) == nil
	}
	_, err := write(fd, small())
	return err == nil
}

func small() []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n", SmallSize)
	return append([]byte(head), make([]byte, SmallSize)...)
}

// send sends what fits without waiting.
func (o *origin) send(fd int, c *served) bool {
	size := int64(4 << 20)
	if c.left < 0 {
		c.off %= LargeSize / 2
	} else {
		size = min(size, c.left)
	}
	n, err := unix.Sendfile(fd, o.file, &c.off, int(size))
	if err != nil {
		return err == unix.EAGAIN
	}
	if c.left > 0 {
		if c.left -= int64(n); c.left == 0 {
			return o.poll.change(fd, unix.EPOLLIN) == nil
		}
	}
	return true
}
