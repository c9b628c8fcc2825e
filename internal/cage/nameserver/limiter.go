package nameserver

import (
	"sync"
	"time"
)

const (
	// A step may ask rate questions a second after a burst of as many as burst.
	// Builds ask for some hundreds in all; what is beyond gets no answer.
	rate  = 2000
	burst = 4000
	// Buckets of steps that went quiet are forgotten beyond this number.
	maxBuckets = 1024
)

// limiter is a token bucket per step. The zero value is ready to use.
type limiter struct {
	mu      sync.Mutex
	buckets map[string]*bucket
}

type bucket struct {
	tokens float64
	last   time.Time
}

func (l *limiter) allow(step string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[step]
	if b == nil {
		b = l.open(step, now)
	}
	if d := now.Sub(b.last); d > 0 {
		b.tokens = min(b.tokens+d.Seconds()*rate, burst)
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (l *limiter) open(step string, now time.Time) *bucket {
	if l.buckets == nil {
		l.buckets = make(map[string]*bucket)
	}
	if len(l.buckets) >= maxBuckets {
		for s, b := range l.buckets {
			if now.Sub(b.last).Seconds()*rate > burst {
				delete(l.buckets, s) // full again: as good as new
			}
		}
	}
	b := &bucket{tokens: burst, last: now}
	l.buckets[step] = b
	return b
}

// connSlots bound the TCP connections, in total and per step. The zero value
// is ready to use.
type connSlots struct {
	mu     sync.Mutex
	total  int
	byStep map[string]int
}

func (c *connSlots) take(step string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total >= maxConns || c.byStep[step] >= maxStepConn {
		return false
	}
	if c.byStep == nil {
		c.byStep = make(map[string]int)
	}
	c.total++
	c.byStep[step]++
	return true
}

func (c *connSlots) give(step string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.byStep[step]--; c.byStep[step] == 0 {
		delete(c.byStep, step)
	}
}
