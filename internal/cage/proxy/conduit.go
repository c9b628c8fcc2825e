package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/upstream"
	"github.com/buildcage/buildcage/internal/event"
)

// The two ends of a conduit.
const (
	clientEnd = iota
	originEnd
)

// conduit is a connection that is decided and dialled, on a relay. It closes
// the sockets, records the connection and leaves the ledger.
type conduit struct {
	*session
	ev *event.Conn
	to netip.AddrPort
	on *relay
	seat

	mu   sync.Mutex // held while bytes move, and to close
	over bool
	ends [2]socket

	sent int // of the hello

	connecting bool      // to the origin; nothing moves yet
	since      time.Time // it is connecting
	lanes      [2]lane   // from the client, from the origin
}

// socket is one end.
type socket struct {
	fd                 int
	watched            bool // it is on the relay's list already
	readable, writable bool // as far as we know
	ended              bool // its end of file is known to be coming
	done               bool // and has been passed on
	torn               bool // it ends, or has ended, with an error
	dead               bool // there is nobody any more
	urgent             bool // it had an urgent byte, which stops reading in front of it
}

// emptied says that a reading that was not full was the last one: the end of
// file was known before, and comes behind all that there is to read.
func (s *socket) emptied() bool { return s.ended && !s.torn && !s.urgent }

// hand gives an allowed connection to a relay, with the way to its origin as
// far as that has come. After an error the client is still the session's.
func (c *session) hand(ev *event.Conn, begun upstream.Begun) (err error) {
	d := &conduit{session: c, ev: ev, on: c.client.relay, to: begun.To, connecting: begun.Conn == nil}
	origin := begun.Socket
	if begun.Conn != nil {
		origin, err = detached(begun.Conn)
		begun.Conn.Close()
		if err != nil {
			return err
		}
	}
	client, watched, err := c.client.release()
	if err != nil {
		unix.Close(origin)
		return err
	}
	if !d.connecting {
		d.dialled(ev, d.to)
	}
	d.ends[clientEnd].fd, d.ends[originEnd].fd = client, origin
	// From here on the sockets are the conduit's alone.
	d.ends[clientEnd].watched = watched
	c.term.end()
	c.conduit.Store(d)
	if ending(c.ended.Load()) != running || c.life.Err() != nil { // cut came before Store, or comes no more
		d.abort(nil)
	} else if err := d.begin(); err != nil {
		d.abort(&broke{originEnd, err})
	}
	return nil
}

// begin puts c on its relay, unless it was cut before.
func (c *conduit) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return nil
	}
	if c.connecting {
		c.since = time.Now()
		c.on.connecting.Add(1)
	}
	return c.on.add(c)
}

// tooLate ends a connection whose origin has not answered by now.
func (c *conduit) tooLate(now time.Time) {
	c.mu.Lock()
	late := c.connecting && !c.over && !c.since.IsZero() && now.Sub(c.since) >= upstream.DialTimeout
	if late {
		c.finish(true)
	}
	c.mu.Unlock()
	if late {
		c.conclude(&broke{originEnd, upstream.Failed(c.to, os.ErrDeadlineExceeded)})
	}
}

// connected goes on when the origin has answered, in whatever way.
func (c *conduit) connected() *broke {
	if e := &c.ends[originEnd]; e.torn || e.dead {
		if err := upstream.Connected(c.to, e.fd); err != nil {
			return &broke{originEnd, err}
		}
	}
	c.connecting = false
	c.on.connecting.Add(-1)
	c.dialled(c.ev, c.to)
	return nil
}

// detached is the socket of conn under another descriptor, for use without
// Go's poller.
func detached(conn *net.TCPConn) (fd int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlled := raw.Control(func(own uintptr) {
		fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 3)
	})
	if err = errors.Join(controlled, err); err != nil {
		return 0, fmt.Errorf("detaching a connection: %w", err)
	}
	return fd, nil
}

// abort ends the connection with a reset, from any goroutine.
func (c *conduit) abort(bad *broke) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return
	}
	c.finish(true)
	c.mu.Unlock()
	c.conclude(bad)
}

// finish closes both ends; hard: with a reset, which must not look like a
// proper end. mu is held.
func (c *conduit) finish(hard bool) {
	c.over = true
	if c.connecting && !c.since.IsZero() {
		c.on.connecting.Add(-1)
	}
	for i, e := range c.ends {
		if hard {
			reset(e.fd)
		}
		closeNow(e.fd)
		c.lanes[i].drop(c.on.pipes)
	}
	c.on.remove(c)
}

// conclude has the connection recorded, beside the relay. Where that has to wait
// for the process, other records do not.
func (c *conduit) conclude(bad *broke) {
	switch {
	case c.connecting && bad == nil:
		c.blame(c.ev, upstream.Failed(c.to, context.Canceled))
	case c.connecting:
		c.blame(c.ev, bad.err)
	case bad != nil && bad.side == originEnd && ending(c.session.ended.Load()) == running:
		c.broken(c.ev, bad.err)
	}
	c.end(c.ev)
	if c.opener.known() {
		c.on.clerk.add(c)
		return
	}
	go c.write()
}

// write records the connection, which is the end of it.
func (c *conduit) write() {
	defer c.leave()
	c.record(c.ev)
}

// probe asks the kernel to find out whether the ends are still there.
func (c *conduit) probe() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	for _, e := range c.ends {
		probe(e.fd)
	}
}
