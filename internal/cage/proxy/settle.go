package proxy

import (
	"context"
	"time"

	"github.com/buildcage/buildcage/internal/cage/step"
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
