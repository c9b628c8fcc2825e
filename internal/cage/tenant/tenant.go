// Package tenant knows who builds in the cage. A tenant has a policy and a
// record of its own; a temporary cage has one, a cage that stays has its own
// for plain clients and one for every build that registers.
//
// What belongs to whom is never asked of a client: a tenant has a front door of
// its own, and what comes in there is marked with a trace that only the cage
// knows. BuildKit runs a vertex that several builds have in common once; such a
// step has all of them as members, may do what all of them allow, and what it
// does stands in every member's record.
package tenant

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"sync"

	"github.com/buildcage/buildcage/internal/cage/asking"
	"github.com/buildcage/buildcage/internal/cage/journal"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Tenant is one of them. The fields do not change once it is in a table.
type Tenant struct {
	ID      string // of its run
	Policy  *policy.Policy
	Journal *journal.Journal
	Trace   string         // 16 bytes as hex, on everything that it asks of BuildKit
	Asking  *asking.Broker // of the person who builds; nil: nobody is asked
}

// NewTrace is a trace id that nobody can guess.
func NewTrace() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// ErrTaken means that another tenant has the id.
var ErrTaken = errors.New("this run is registered already")

// ErrFull means that there are as many tenants as a cage takes.
var ErrFull = errors.New("too many builds are registered")

// Most is how many tenants a cage takes.
const Most = 128

// maxRefs is how many builds are remembered.
const maxRefs = 16384

// Table holds the tenants of a cage. The zero value is ready.
type Table struct {
	mu   sync.Mutex
	all  []*Tenant            // in the order of their coming
	refs map[string]*Tenant   // of builds
	aged map[*Tenant][]string // builds of each, oldest first
}

// Add lets a tenant in.
func (t *Table) Add(one *Tenant) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case slices.ContainsFunc(t.all, func(o *Tenant) bool { return o.ID == one.ID }):
		return ErrTaken
	case len(t.all) >= Most:
		return ErrFull
	}
	t.all = append(t.all, one)
	return nil
}

// Remove forgets a tenant. Its builds stay its own: nobody else may take them over.
func (t *Table) Remove(one *Tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.all = slices.DeleteFunc(slices.Clone(t.all), func(o *Tenant) bool { return o == one })
}

// All are the tenants that are there.
func (t *Table) All() []*Tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.all)
}

// ByTrace is the tenant that a trace marks, nil for none that is there.
func (t *Table) ByTrace(trace string) *Tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, one := range t.all {
		if trace != "" && one.Trace == trace {
			return one
		}
	}
	return nil
}

// Claim makes a build that of a tenant, and reports whether it is. The first
// one who speaks of a build owns it: its name is a random one.
func (t *Table) Claim(ref string, one *Tenant) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if owner, known := t.refs[ref]; known {
		return owner == one
	}
	if t.refs == nil {
		t.refs, t.aged = make(map[string]*Tenant), make(map[*Tenant][]string)
	}
	if len(t.refs) >= maxRefs {
		t.forget()
	}
	t.refs[ref] = one
	t.aged[one] = append(t.aged[one], ref)
	return true
}

// forget drops the oldest build of who has most: nobody can make the cage
// forget another's, which could then be claimed. The lock is held.
func (t *Table) forget() {
	var most *Tenant
	for one, refs := range t.aged {
		if len(refs) > len(t.aged[most]) {
			most = one
		}
	}
	delete(t.refs, t.aged[most][0])
	if t.aged[most] = t.aged[most][1:]; len(t.aged[most]) == 0 {
		delete(t.aged, most)
	}
}

// Of is the tenant that owns a build, nil when none that is there does. Where
// there is one tenant, every build is its own.
func (t *Table) Of(ref string) *Tenant {
	t.mu.Lock()
	defer t.mu.Unlock()
	one, known := t.refs[ref]
	switch {
	case known && slices.Contains(t.all, one):
		return one
	case !known && len(t.all) == 1:
		return t.all[0]
	}
	return nil
}

// Tell writes a record into those of all tenants given, each with a copy of its own.
func Tell(r event.Record, to ...*Tenant) {
	for _, one := range to {
		one.Journal.Add(copied(r))
	}
}

// copied lets a journal clean and cut what it writes.
func copied(r event.Record) event.Record {
	switch {
	case r.Conn != nil:
		c := *r.Conn
		c.Flags = slices.Clone(c.Flags)
		r.Conn = &c
	case r.Drop != nil:
		d := *r.Drop
		r.Drop = &d
	case r.DNS != nil:
		d := *r.DNS
		r.DNS = &d
	case r.Step != nil:
		s := *r.Step
		r.Step = &s
	}
	return r
}
