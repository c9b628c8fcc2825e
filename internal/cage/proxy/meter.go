package proxy

import (
	"maps"
	"net"
	"strconv"
	"sync"
	"time"
)

const (
	// meterTick is how exact the times of the builder's traffic are.
	meterTick = 20 * time.Millisecond
	// maxSamples bounds the memory of the meter: with more, old ones get coarser.
	maxSamples = 4096
	// maxMetered bounds the destinations; what is beyond counts as one.
	maxMetered  = 256
	overMetered = "..."
)

// Traffic is what went to and came from one destination.
type Traffic struct{ Up, Down int64 }

func (t Traffic) plus(up, down int64) Traffic { return Traffic{t.Up + up, t.Down + down} }

// meter remembers when the builder moved how much to where, host:port. Its
// connections outlive what they were opened for, so events alone can't tell.
// The zero value is ready.
type meter struct {
	mu      sync.Mutex
	open    map[*session]string
	ended   map[string]Traffic
	samples []sample
	running bool
}

type sample struct {
	at    time.Time
	total map[string]Traffic
}

// metered begins to count a connection of the builder.
func (c *session) metered() {
	if c.step == nil || !c.step.Builder {
		return
	}
	host := c.origName
	if host == "" {
		host = c.orig.Addr().String()
	}
	c.fetched.add(c, net.JoinHostPort(host, strconv.Itoa(int(c.orig.Port()))))
}

func (m *meter) add(c *session, to string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open == nil {
		m.open, m.ended = make(map[*session]string), make(map[string]Traffic)
	}
	if _, known := m.ended[to]; !known {
		if len(m.ended) >= maxMetered {
			to = overMetered
		}
		m.ended[to] = Traffic{}
	}
	m.open[c] = to
	if !m.running {
		m.running = true
		m.sample(time.Now())
		go m.run()
	}
}

// run takes samples while the builder has connections.
func (m *meter) run() {
	tick := time.NewTicker(meterTick)
	defer tick.Stop()
	for now := range tick.C {
		m.mu.Lock()
		m.sample(now)
		m.running = len(m.open) > 0
		on := m.running
		m.mu.Unlock()
		if !on {
			return
		}
	}
}

func (m *meter) remove(c *session) {
	m.mu.Lock()
	defer m.mu.Unlock()
	to, ok := m.open[c]
	if !ok {
		return
	}
	delete(m.open, c)
	m.ended[to] = m.ended[to].plus(c.up.Load(), c.down.Load())
}

// sample notes where the totals stand, if they moved.
func (m *meter) sample(now time.Time) {
	total := maps.Clone(m.ended)
	for c, to := range m.open {
		total[to] = total[to].plus(c.up.Load(), c.down.Load())
	}
	if n := len(m.samples); n > 0 && maps.Equal(m.samples[n-1].total, total) {
		return
	}
	m.samples = append(m.samples, sample{now, total})
	if len(m.samples) > maxSamples {
		kept := m.samples[:0]
		for i, s := range m.samples {
			if i%2 == 0 || i >= maxSamples/2 {
				kept = append(kept, s)
			}
		}
		m.samples = kept
	}
}

// Fetched returns what the builder moved between two times, by host:port, to
// within meterTick.
func (s *Server) Fetched(from, to time.Time) map[string]Traffic {
	m := &s.fetched
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sample(time.Now())
	var before, after map[string]Traffic
	for _, s := range m.samples {
		if !s.at.After(from) {
			before = s.total
		}
		if !s.at.After(to.Add(meterTick)) { // it tells of the tick before it
			after = s.total
		}
	}
	moved := make(map[string]Traffic)
	for dest, t := range after {
		if d := (Traffic{t.Up - before[dest].Up, t.Down - before[dest].Down}); d != (Traffic{}) {
			moved[dest] = d
		}
	}
	return moved
}
