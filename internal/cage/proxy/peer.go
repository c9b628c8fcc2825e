package proxy

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// peer is the client's end of a session. It is a descriptor that a relay waits
// for, and becomes a connection of package net, which has to be registered and
// can't be taken apart again, only when somebody has use for one: a connection
// that is allowed goes to a relay without ever having been one.
//
// One goroutine uses it; Close, hard and probe may come from others.
type peer struct {
	remote, local netip.AddrPort
	relay         *relay

	until time.Time // for reading; only the goroutine that reads uses it
	conn  atomic.Pointer[net.TCPConn]

	mu     sync.Mutex
	fd     int     // -1: conn's, a conduit's, or closed
	waiter *waiter // on relay, nil: fd was never waited for
}

// waiter is a descriptor on a relay that somebody waits for.
type waiter struct {
	seat
	woken chan struct{} // holds one at most
}

func (w *waiter) ready(*relay, int, uint32) bool {
	w.wake()
	return false
}

func (w *waiter) wake() {
	select {
	case w.woken <- struct{}{}:
	default:
	}
}

func (w *waiter) move(*relay) bool { return false }

// Read reads what there is, or waits for it. The end of the client's bytes is io.EOF.
func (p *peer) Read(b []byte) (int, error) {
	for {
		if conn := p.conn.Load(); conn != nil {
			return conn.Read(b)
		}
		n, err := p.take(b)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := p.wait(); err != nil {
				return 0, err
			}
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// take reads without waiting.
func (p *peer) take(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return 0, net.ErrClosed
	}
	return readNow(p.fd, b)
}

// wait waits until something may have come.
func (p *peer) wait() error {
	w, err := p.watch()
	if err != nil {
		return err
	}
	var late <-chan time.Time
	if !p.until.IsZero() {
		timer := time.NewTimer(time.Until(p.until))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-w.woken:
		return nil
	case <-late:
		return os.ErrDeadlineExceeded
	}
}

func (p *peer) watch() (*waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return nil, net.ErrClosed
	}
	if p.waiter == nil {
		w := &waiter{woken: make(chan struct{}, 1)}
		if err := p.relay.await(w, p.fd); err != nil {
			return nil, err
		}
		p.waiter = w
	}
	return p.waiter, nil
}

// release gives the descriptor away and says whether the relay watches it.
func (p *peer) release() (fd int, watched bool, err error) {
	if conn := p.conn.Load(); conn != nil {
		fd, err = detached(conn)
		conn.Close()
		return fd, false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return -1, false, net.ErrClosed
	}
	fd, p.fd = p.fd, -1
	return fd, p.leave(), nil
}

// leave gives up the place on the relay. mu is held.
func (p *peer) leave() bool {
	if p.waiter == nil {
		return false
	}
	p.relay.remove(p.waiter)
	p.waiter = nil
	return true
}

// open makes it a connection of package net. One that can't be is reset, and
// the connection that is returned then fails in everything.
func (p *peer) open() *net.TCPConn {
	if conn := p.conn.Load(); conn != nil {
		return conn
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	conn := new(net.TCPConn)
	if p.fd >= 0 {
		if p.leave() {
			unwatch(p.relay.poll, p.fd)
		}
		if made, err := connOf(p.fd); err == nil {
			conn = made
			conn.SetReadDeadline(p.until)
		} else {
			reset(p.fd)
		}
		closeNow(p.fd)
		p.fd = -1
	}
	p.conn.Store(conn)
	return conn
}

// connOf is a connection of package net for a socket, which it shares.
func connOf(fd int) (*net.TCPConn, error) {
	own, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(own), "client")
	defer file.Close()
	conn, err := net.FileConn(file)
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return nil, os.ErrInvalid
	}
	tcp.SetKeepAlive(false) // until it goes quiet; see ledger
	return tcp, nil
}

// reset makes that closing the socket resets the connection.
func reset(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}) // at worst it is closed in peace
}

// probe turns keep-alive probes on.
func probe(fd int) {
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1) // at worst it stays until the idle limit
}

// control calls f with the descriptor, which it may only ask about.
func (p *peer) control(f func(fd int)) error {
	if conn := p.conn.Load(); conn != nil {
		raw, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		return raw.Control(func(fd uintptr) { f(int(fd)) })
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fd < 0 {
		return net.ErrClosed
	}
	f(p.fd)
	return nil
}

// SetReadDeadline says how long Read may wait.
func (p *peer) SetReadDeadline(t time.Time) {
	p.until = t
	if conn := p.conn.Load(); conn != nil {
		conn.SetReadDeadline(t)
	}
}

// hard makes that closing it resets the connection.
func (p *peer) hard() { _ = p.control(reset) } // it may be closed already

// probe asks the kernel to find out whether the client is still there.
func (p *peer) probe() { _ = p.control(probe) }

// Close closes what is still the peer's.
func (p *peer) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if conn := p.conn.Load(); conn != nil {
		conn.Close()
	}
	if p.fd >= 0 {
		w := p.waiter
		p.leave()
		closeNow(p.fd)
		p.fd = -1
		if w != nil {
			w.wake() // to see that it is closed
		}
	}
}
