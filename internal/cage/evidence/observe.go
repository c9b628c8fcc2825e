package evidence

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

// Observer watches the running steps. The zero value is ready.
type Observer struct {
	mu    sync.Mutex
	steps map[string]*observation
}

// observation is a run while it goes on.
type observation struct {
	run   Run
	conns map[connKey]int
	drops map[dropKey]int
	names map[nameKey]int
}

type (
	connKey struct {
		protocol, name, origName string
		addr                     netip.Addr
		port                     uint16
		verdict                  event.Verdict
		reason                   event.Reason
		flags                    string
	}
	dropKey struct {
		protocol, name string
		dest           netip.AddrPort
	}
	nameKey struct {
		name, typ string
		reason    event.Reason
		foreign   netip.Addr
	}
)

// Begin watches a step.
func (o *Observer) Begin(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.steps == nil {
		o.steps = make(map[string]*observation)
	}
	one := new(observation)
	one.index()
	o.steps[id] = one
}

// See takes a record of whatever step.
func (o *Observer) See(r event.Record) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case r.Conn != nil:
		if one := o.steps[r.Conn.Step]; one != nil {
			one.conn(r.Conn, r.Time, r.Time)
		}
	case r.Drop != nil:
		if one := o.steps[r.Drop.Step]; one != nil {
			one.drop(*r.Drop)
		}
	case r.DNS != nil:
		if one := o.steps[r.DNS.Step]; one != nil {
			one.dns(*r.DNS)
		}
	}
}

// Peek returns what the step did so far.
func (o *Observer) Peek(id string) Run {
	o.mu.Lock()
	defer o.mu.Unlock()
	one := o.steps[id]
	if one == nil {
		return Run{Cut: true}
	}
	run := one.result()
	run.Conns, run.Drops, run.DNS = slices.Clone(run.Conns), slices.Clone(run.Drops), slices.Clone(run.DNS)
	return run
}

// End returns what the step did, and forgets it.
func (o *Observer) End(id string) Run {
	o.mu.Lock()
	defer o.mu.Unlock()
	one := o.steps[id]
	delete(o.steps, id)
	if one == nil {
		return Run{Cut: true}
	}
	return one.result()
}

func (o *observation) index() {
	o.conns, o.drops, o.names = make(map[connKey]int), make(map[dropKey]int), make(map[nameKey]int)
	for i := range o.run.Conns {
		o.conns[keyOf(&o.run.Conns[i])] = i
	}
	for i, d := range o.run.Drops {
		o.drops[dropKey{d.Protocol, d.Name, d.Dest}] = i
	}
	for i, d := range o.run.DNS {
		o.names[nameKey{d.Name, d.Type, d.Reason, d.Foreign}] = i
	}
}

func (o *observation) result() Run { return o.run }

// keyOf is what a judgement depends on. The dialled address is not part of it:
// it changes with every answer; private ones are kept apart.
func keyOf(c *event.Conn) connKey {
	k := connKey{
		protocol: c.Protocol, name: c.Name, origName: c.OrigName, port: c.Port,
		verdict: c.Verdict, reason: c.Reason, flags: strings.Join(c.Flags, ","),
	}
	if c.OrigName == "" {
		k.addr = c.Orig.Addr()
	}
	switch {
	case c.Resolved.IsValid():
		k.addr = c.Resolved
	case c.Dialled.Addr().Unmap().IsPrivate():
		k.addr = c.Dialled.Addr()
	}
	return k
}

// at is the index of key in an index over list, -1 where there is no room for
// it. fresh says that it has to be appended.
func at[K comparable](index map[K]int, key K) (i int, fresh bool) {
	i, known := index[key]
	switch {
	case known:
		return i, false
	case len(index) >= maxEntries:
		return -1, false
	}
	index[key] = len(index)
	return index[key], true
}

// conn takes what was seen from first to last. It leaves seen as it is.
func (o *observation) conn(seen *event.Conn, first, last time.Time) {
	i, fresh := at(o.conns, keyOf(seen))
	switch {
	case i < 0:
		o.run.Cut = true
	case fresh:
		c := *seen
		c.First, c.Last = first, last
		// What a judgement does not need takes room; who did it is worth it.
		c.Step, c.Request, c.Method, c.Path, c.Took, c.Rule, c.RulePos = "", 0, "", "", 0, "", ""
		c.Flags = slices.Clone(c.Flags)
		c.RawName, c.Detail = event.EscapeMax(c.RawName, maxText), ""
		c.Process = shortened(c.Process)
		c.Count = c.Times()
		o.run.Conns = append(o.run.Conns, c)
	default:
		had := &o.run.Conns[i]
		had.Count = event.Add(had.Times(), seen.Times())
		had.Up, had.Down = event.Add(had.Up, seen.Up), event.Add(had.Down, seen.Down)
		if had.Last.Before(last) {
			had.Last = last
		}
	}
}

// maxText is what evidence keeps of a text that explains but does not decide.
const maxText = 120

func shortened(p *event.Process) *event.Process {
	if p == nil || p.Exe == "" {
		return nil
	}
	return &event.Process{Exe: event.EscapeMax(p.Exe, maxText)}
}

func (o *observation) drop(d event.Drop) {
	i, fresh := at(o.drops, dropKey{d.Protocol, d.Name, d.Dest})
	switch {
	case i < 0:
		o.run.Cut = true
	case fresh:
		d.Step, d.Fold = "", event.Fold{Count: d.Times()}
		o.run.Drops = append(o.run.Drops, d)
	default:
		had := &o.run.Drops[i]
		had.Count = event.Add(had.Times(), d.Times())
	}
}

func (o *observation) dns(d event.DNS) {
	i, fresh := at(o.names, nameKey{d.Name, d.Type, d.Reason, d.Foreign})
	switch {
	case i < 0:
		o.run.Cut = true
	case fresh:
		d.Step, d.Answer, d.Fold = "", netip.Addr{}, event.Fold{Count: d.Times()}
		o.run.DNS = append(o.run.DNS, d)
	default:
		had := &o.run.DNS[i]
		had.Count = event.Add(had.Times(), d.Times())
	}
}
