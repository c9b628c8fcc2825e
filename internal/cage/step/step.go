// Package step knows which RUN step owns which address in the cage. The
// runtime wrapper registers a step before its first process starts; the
// proxy, the nameserver and the firewall's logger ask by source address.
package step

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Step is one running step. It is immutable once registered, but for Narrow.
type Step struct {
	event.Step
	NetNS   string        // path of the step's network namespace, as seen by caged
	PID     int           // of the runtime process, 0 before start
	Scope   *policy.Scope // the rules that the step began with
	Builder bool          // the builder's own traffic, not a step
	// Record takes what happens to traffic that is told apart here already; nil: by the id.
	Record func(event.Record)

	narrowed atomic.Pointer[policy.Scope]
}

// Rules are what judges the step now.
func (s *Step) Rules() *policy.Scope {
	if n := s.narrowed.Load(); n != nil {
		return n
	}
	return s.Scope
}

// Narrow makes scope judge what the step does from now on: somebody else takes
// its result, too.
func (s *Step) Narrow(scope *policy.Scope) { s.narrowed.Store(scope) }

// Table maps addresses to steps. The zero value is ready to use.
type Table struct {
	mu     sync.RWMutex
	byAddr map[netip.Addr]*Step
}

// Register makes s the owner of its addresses. It replaces an earlier owner.
func (t *Table) Register(s *Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.byAddr == nil {
		t.byAddr = make(map[netip.Addr]*Step)
	}
	for _, a := range s.Addrs {
		t.byAddr[a.Unmap()] = s
	}
}

// Forget removes s where it still owns its addresses.
func (t *Table) Forget(s *Step) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range s.Addrs {
		if t.byAddr[a.Unmap()] == s {
			delete(t.byAddr, a.Unmap())
		}
	}
}

// Lookup returns the step that owns a, or nil. A nil step is unknown: callers
// refuse its traffic and record it as step "unknown".
func (t *Table) Lookup(a netip.Addr) *Step {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.byAddr[a.Unmap()]
}
