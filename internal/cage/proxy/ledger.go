package proxy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buildcage/buildcage/internal/cage/step"
)

// quietAfter is when a silent connection gets keep-alive probes.
const quietAfter = time.Minute

// ledger knows the open connections and what each step has used. The zero value is ready.
type ledger struct {
	mu    sync.Mutex
	open  map[*session]struct{}
	usage map[*step.Step]*usage
}

// usage is what one step has open, and what it has sent so far: that counts
// also while there is no limit, which may come when the step is narrowed.
type usage struct {
	step  *step.Step
	conns int
	gone  bool // the step has ended
	sent  atomic.Int64
}

// limit is the step's budget as it is now, 0: none.
func (u *usage) limit() int64 { return u.step.Rules().MaxUpload() }

// spend counts n bytes and reports whether they are within the budget.
func (u *usage) spend(n int) bool {
	if u == nil {
		return true
	}
	sent, limit := u.sent.Add(int64(n)), u.limit()
	return limit == 0 || sent <= limit
}

// fits reports whether n bytes more would be within the budget; n < 0 is unknown.
func (u *usage) fits(n int64) bool {
	if u == nil {
		return true
	}
	limit := u.limit()
	return limit == 0 || n <= limit-u.sent.Load()
}

// enter adds c, unless that would exceed a limit.
func (l *ledger) enter(c *session, limits *Limits) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.open, l.usage = make(map[*session]struct{}), make(map[*step.Step]*usage)
	}
	if len(l.open) >= limits.Conns {
		return false
	}
	if c.step != nil {
		u := l.usage[c.step]
		if u == nil {
			u = &usage{step: c.step}
			l.usage[c.step] = u
		}
		if u.conns >= limits.StepConns {
			return false
		}
		u.conns++
		c.usage = u
	}
	l.open[c] = struct{}{}
	return true
}

// leave removes c. What a step has sent is remembered until Forget, or it
// could start over with every connection; the builder, who never ends, only
// while there is a limit.
func (l *ledger) leave(c *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, ok := l.open[c]; !ok {
		return
	}
	delete(l.open, c)
	if u := c.usage; u != nil {
		if u.conns--; u.conns == 0 && (u.gone || c.step.Builder && u.limit() == 0) {
			delete(l.usage, c.step)
		}
	}
}

func (l *ledger) each(f func(*session)) {
	l.mu.Lock()
	open := make([]*session, 0, len(l.open))
	for c := range l.open {
		open = append(open, c)
	}
	l.mu.Unlock()
	for _, c := range open {
		f(c)
	}
}

// Forget drops what is remembered of a step that has ended.
func (s *Server) Forget(st *step.Step) {
	s.ledger.mu.Lock()
	defer s.ledger.mu.Unlock()
	u := s.ledger.usage[st]
	if u == nil {
		return
	}
	if u.gone = true; u.conns == 0 {
		delete(s.ledger.usage, st)
	}
}

// dialTick is how exactly the time that an origin has to answer is kept.
const dialTick = time.Second

// sweep ends connections that were silent for the idle limit, or whose origin
// did not answer. It costs the connections nothing: they count their bytes
// anyway, and a timer for each would take more than the decision about it. The
// idle limit is exact to within an eighth.
func (s *Server) sweep(ctx context.Context) {
	idle, dial := time.NewTicker(max(s.Limits.Idle/8, time.Millisecond)), time.NewTicker(dialTick)
	defer idle.Stop()
	defer dial.Stop()
	for {
		select {
		case now := <-idle.C:
			s.ledger.each(func(c *session) { c.look(now, s.Limits.Idle) })
		case now := <-dial.C:
			s.overdue(now)
		case <-ctx.Done():
			return
		}
	}
}

func (s *Server) overdue(now time.Time) {
	for _, r := range s.relays {
		r.overdue(now)
	}
}

// pulse is what sweep remembers of a connection; only sweep touches it.
type pulse struct {
	bytes  int64
	since  time.Time
	probed bool
}

func (c *session) look(now time.Time, idle time.Duration) {
	p := &c.pulse
	if total := c.up.Load() + c.down.Load(); total != p.bytes || p.since.IsZero() {
		*p = pulse{bytes: total, since: now}
		return
	}
	switch silent := now.Sub(p.since); {
	case silent >= idle:
		c.cut(reasonIdle)
	case silent >= quietAfter && !p.probed:
		p.probed = true
		if d := c.conduit.Load(); d != nil {
			d.probe()
			return
		}
		c.client.probe()
	}
}
