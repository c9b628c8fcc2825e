// Package step knows which RUN step owns which address in the cage. The
// runtime wrapper registers a step before its first process starts; the
// proxy, the nameserver and the firewall's logger ask by source address.
package step

import (
	"net/netip"
	"sync"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Step is one running step. It is immutable once registered.
type Step struct {
	event.Step
	NetNS string        // path of the step's network namespace, as seen by caged
	PID   int           // of the runtime process, 0 before start
	Scope *policy.Scope // the rules that judge this step
}

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
