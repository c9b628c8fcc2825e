package proxy

import (
	"errors"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// turnLimit is how often one direction moves something before others have a turn.
const turnLimit = 16

// ready takes notice of an event and moves what can be moved. It reports
// whether there is more to do.
func (c *conduit) ready(r *relay, side int, events uint32) bool {
	c.mu.Lock()
	e := &c.ends[side]
	if events&unix.EPOLLPRI != 0 {
		e.urgent = true
	}
	if events&(unix.EPOLLIN|unix.EPOLLPRI|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.readable = true
	}
	if events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.ended = true
	}
	e.dead = e.dead || events&unix.EPOLLHUP != 0
	e.torn = e.torn || events&unix.EPOLLERR != 0
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		e.writable = true
	}
	c.mu.Unlock()
	return c.move(r)
}

// move moves what it can in both directions, up to a limit, and reports
// whether there is more.
func (c *conduit) move(r *relay) (more bool) {
	c.mu.Lock()
	if c.over {
		c.mu.Unlock()
		return false
	}
	bad := c.both(r, &more)
	ended := bad != nil || c.ends[clientEnd].done && c.ends[originEnd].done
	if ended {
		c.finish(bad != nil)
	}
	c.mu.Unlock()
	if ended {
		c.conclude(bad)
	}
	return more && !ended
}

// both turns a bug into the end of this connection.
func (c *conduit) both(r *relay, more *bool) (bad *broke) {
	defer func() {
		if bug := recover(); bug != nil {
			c.Panics.Add(1)
			c.Logger.Error("proxy connection panicked", "panic", bug, "stack", string(debug.Stack()))
			bad = &broke{originEnd, errors.New("panic")}
		}
	}()
	if c.connecting {
		if !c.ends[originEnd].writable {
			return nil
		}
		if bad := c.connected(); bad != nil {
			return bad
		}
	}
	if bad := c.greet(); bad != nil {
		return bad
	}
	for from := range c.ends {
		again, bad := c.direction(r, from)
		if bad != nil {
			return bad
		}
		*more = *more || again
	}
	// Where the origin is silent, no writing tells of a client that is gone.
	if client := &c.ends[clientEnd]; client.dead && client.done && !c.ends[originEnd].done {
		return &broke{clientEnd, unix.ECONNRESET}
	}
	return nil
}

var errBudget = errors.New("upload budget")

// greet sends what the client had said before the decision.
func (c *conduit) greet() *broke {
	origin := &c.ends[originEnd]
	for c.sent < len(c.hello) && origin.writable {
		n, err := sendNow(origin.fd, c.hello[c.sent:], false)
		if errors.Is(err, unix.EAGAIN) {
			origin.writable = false
			return nil
		}
		if err != nil {
			return &broke{originEnd, err}
		}
		c.sent += n
	}
	if c.sent == len(c.hello) {
		c.release()
		c.sent = 0
	}
	return nil
}

// broke says that one end of a conduit failed.
type broke struct {
	side int
	err  error
}

// direction moves bytes from one end to the other one.
func (c *conduit) direction(r *relay, from int) (more bool, bad *broke) {
	src, dst, l := &c.ends[from], &c.ends[1-from], &c.lanes[from]
	for range turnLimit {
		if l.n > 0 {
			if !dst.writable {
				return false, nil
			}
			if err := l.flush(dst); err != nil {
				return false, &broke{1 - from, err}
			}
			continue
		}
		if !src.readable || src.done || from == clientEnd && len(c.hello) > 0 {
			l.drop(r.pipes)
			return false, nil
		}
		n, err := l.fill(r, src)
		switch {
		case err != nil:
			return false, &broke{from, err}
		case n == 0 && src.readable:
			c.pass(r, from)
			return false, nil
		case n == 0:
			continue
		case !c.count(from, n):
			return false, &broke{clientEnd, errBudget}
		}
		if err := l.forward(r, src, dst, n); err != nil {
			return false, &broke{1 - from, err}
		}
		if l.n == 0 && n < bufSize && src.emptied() {
			c.pass(r, from)
			return false, nil
		}
	}
	return true, nil
}

// pass passes on that an end has said all it had to say.
func (c *conduit) pass(r *relay, from int) {
	dst := &c.ends[1-from]
	c.ends[from].done = true
	c.lanes[from].drop(r.pipes)
	if !dst.done { // else both are closed now
		shut(dst.fd, unix.SHUT_WR)
	}
}

// count counts n bytes from an end. It reports false when the step may not
// send them.
func (c *conduit) count(from, n int) bool {
	if from == originEnd {
		c.down.Add(int64(n))
		return true
	}
	if !c.usage.spend(n) {
		c.ended.CompareAndSwap(int32(running), int32(reasonBudget))
		return false
	}
	c.up.Add(int64(n))
	return true
}
