package proxy

import (
	"context"
	"slices"
	"time"

	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/event"
)

// settleTick is how often Settle looks.
const settleTick = 5 * time.Millisecond

// Settle waits until the connections of a step that has ended are recorded,
// and reports whether they are. ctx bounds the wait.
func (s *Server) Settle(ctx context.Context, st *step.Step) bool {
	tick := time.NewTicker(settleTick)
	defer tick.Stop()
	for s.ledger.busy(st) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

func (l *ledger) busy(st *step.Step) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if c.step == st {
			return true
		}
	}
	return false
}

// Cut ends the connections of a step. It must not be found any more.
func (s *Server) Cut(st *step.Step) {
	s.ledger.each(func(c *session) {
		if c.step == st {
			c.cut(reasonDrained)
		}
	})
}

// Open are records of the tunnels of a step that go on, as of now: for a record
// that ends before they do. It waits until those that have ended are written
// down, which are not among them; ctx bounds the wait.
func (s *Server) Open(ctx context.Context, st *step.Step) []event.Record {
	tick := time.NewTicker(settleTick)
	defer tick.Stop()
	for {
		list, all := s.going(st)
		if all {
			return list
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return list
		}
	}
}

// going are records of the tunnels of a step as of now. all says that none of
// the others is still to be written down.
func (s *Server) going(st *step.Step) (list []event.Record, all bool) {
	all = true
	s.ledger.each(func(c *session) {
		d := c.conduit.Load()
		if c.step != st || d == nil {
			return
		}
		ev, over := d.sofar()
		if ev != nil {
			list = append(list, event.Record{Time: time.Now(), Kind: event.KindConn, Conn: ev})
		}
		all = all && !over
	})
	return list, all
}

// sofar is the event as it would be if the connection ended now, nil where
// that has happened (over), or it has not begun.
func (c *conduit) sofar() (so *event.Conn, over bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over || c.connecting {
		return nil, c.over
	}
	ev := *c.ev
	ev.Flags = slices.Clone(ev.Flags)
	ev.Up, ev.Down, ev.Took = c.up.Load(), c.down.Load(), time.Since(c.began)
	ev.Process = c.opener.wait(false)
	return &ev, false
}
