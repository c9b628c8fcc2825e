package proxy

import (
	"context"
	"sync"
	"time"
)

// lifetime is the context of a connection. Most connections are over before
// anybody has asked when they end: only then is there more to it than two words.
type lifetime struct {
	parent context.Context

	mu     sync.Mutex
	over   bool
	inner  context.Context // nil: nobody has asked
	cancel context.CancelFunc
}

// end ends it, from any goroutine.
func (l *lifetime) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over = true; l.cancel != nil {
		l.cancel()
	}
}

func (l *lifetime) context() context.Context {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.inner == nil {
		if l.inner, l.cancel = context.WithCancel(l.parent); l.over {
			l.cancel()
		}
	}
	return l.inner
}

// Deadline is that of the proxy: none.
func (l *lifetime) Deadline() (time.Time, bool) { return l.parent.Deadline() }

// Done is closed when the connection has ended.
func (l *lifetime) Done() <-chan struct{} { return l.context().Done() }

// Err says whether the connection has ended.
func (l *lifetime) Err() error { return l.context().Err() }

// Value is the proxy's.
func (l *lifetime) Value(key any) any { return l.context().Value(key) }
