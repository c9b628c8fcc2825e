package journal

import (
	"net/netip"
	"strings"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

const (
	// longest is what a fold remembers of one value.
	longest = 300
	// OverflowName and OverflowDetail mark a record that counts what had no room of its own.
	OverflowName   = "..."
	OverflowDetail = "and more"
	// A fold that goes on repeating is written after one second, then after
	// two, four, … up to maxWait: a flood costs lines by its logarithm.
	minWait = time.Second
	maxWait = 64 * time.Second
)

// class is what shares a budget. A step can use up its own classes only, and
// refused connections can't crowd out allowed ones.
type class struct {
	kind     event.Kind
	step     string
	verdict  event.Verdict
	expected bool
}

// key is what two records must have in common to be repeats. It holds all
// that a folded record says.
type key struct {
	class
	protocol string // of conn and drop, the type of dns
	name     string
	rawName  string // where there is no name
	origName string
	exe      string
	chain    string // of processes, one a line
	gone     bool
	note     string
	reason   event.Reason
	rule     string
	rulePos  string
	flags    string
	addr     netip.Addr // original destination, answer
	foreign  netip.Addr
	port     uint16
	overflow bool
}

// keyOf returns false for a record that never folds.
func keyOf(r event.Record) (key, bool) {
	switch {
	case r.Conn != nil:
		return connKey(r.Conn), true
	case r.DNS != nil:
		d := r.DNS
		return key{
			class:    class{kind: event.KindDNS, step: d.Step},
			protocol: clip(d.Type), name: clip(d.Name), reason: d.Reason, addr: d.Answer, foreign: d.Foreign,
		}, true
	case r.Drop != nil:
		d := r.Drop
		return key{
			class:    class{kind: event.KindDrop, step: d.Step},
			protocol: clip(d.Protocol), name: clip(d.Name), addr: d.Dest.Addr(), port: d.Dest.Port(),
		}, true
	}
	return key{}, false
}

func connKey(c *event.Conn) key {
	k := key{
		class:    class{kind: event.KindConn, step: c.Step, verdict: c.Verdict, expected: c.Expected},
		protocol: clip(c.Protocol), name: clip(c.Name), origName: clip(c.OrigName),
		reason: c.Reason, rule: clip(c.Rule), rulePos: clip(c.RulePos),
		flags: clip(strings.Join(c.Flags, ",")), addr: c.Orig.Addr(), port: c.Port,
	}
	if c.Name == "" {
		k.rawName = clip(c.RawName)
	}
	if c.Process != nil {
		k.exe, k.gone, k.note = clip(c.Process.Exe), c.Process.Gone, clip(c.Process.Note)
		k.chain = clip(strings.Join(c.Process.Chain, "\n")) // escaped text has no line breaks
	}
	return k
}

func clip(s string) string {
	if len(s) > longest {
		return strings.ToValidUTF8(s[:longest], "")
	}
	return s
}

// kept is k with strings of its own: those of the record may be small parts of
// something large.
func (k key) kept() key {
	for _, s := range []*string{&k.protocol, &k.name, &k.rawName, &k.origName, &k.exe, &k.chain, &k.note, &k.rule, &k.rulePos, &k.flags} {
		*s = strings.Clone(*s)
	}
	return k
}

// more is the key under which k is counted when it has no room of its own.
func (k key) more() key {
	m := key{class: k.class, name: OverflowName, overflow: true}
	if k.kind != event.KindDNS { // there are few protocols, but 65 536 types
		m.protocol = k.protocol
	}
	return m
}

// sum is what repeats add up to.
type sum struct {
	count, up, down int64
	first, last     time.Time
}

func sumOf(r event.Record) sum {
	s, f := sum{}, event.Fold{}
	switch {
	case r.Conn != nil:
		f, s.up, s.down = r.Conn.Fold, r.Conn.Up, r.Conn.Down
	case r.DNS != nil:
		f = r.DNS.Fold
	case r.Drop != nil:
		f = r.Drop.Fold
	}
	s.count, s.first, s.last = f.Times(), f.First, f.Last
	if s.first.IsZero() {
		s.first = r.Time
	}
	if s.last.IsZero() {
		s.last = r.Time
	}
	return s
}

// fold is one key with the repeats that are not in the file yet.
type fold struct {
	key     key
	seen    int // sightings written one by one
	pending sum
	wait    time.Duration
	due     time.Time
}

// add returns true when f had nothing pending before.
func (f *fold) add(s sum) bool {
	p := &f.pending
	fresh := p.count == 0
	if fresh || s.first.Before(p.first) {
		p.first = s.first
	}
	if s.last.After(p.last) {
		p.last = s.last
	}
	p.count = event.Add(p.count, s.count)
	p.up = event.Add(p.up, s.up)
	p.down = event.Add(p.down, s.down)
	return fresh
}

// settle empties f after its pending repeats were written at now.
func (f *fold) settle(now time.Time) {
	f.pending = sum{}
	f.wait = min(max(2*f.wait, minWait), maxWait)
	f.due = now.Add(f.wait)
}

// record is the folded record of what is pending.
func (f *fold) record() event.Record {
	k, p := f.key, f.pending
	var r event.Record
	folded := event.Fold{Count: p.count, First: p.first, Last: p.last}
	switch k.kind {
	case event.KindConn:
		r.Conn = f.conn(folded)
	case event.KindDNS:
		r.DNS = &event.DNS{Step: k.step, Name: k.name, Type: k.protocol, Reason: k.reason, Answer: k.addr, Foreign: k.foreign, Fold: folded}
	case event.KindDrop:
		r.Drop = &event.Drop{Step: k.step, Protocol: k.protocol, Name: k.name, Fold: folded}
		if k.addr.IsValid() {
			r.Drop.Dest = netip.AddrPortFrom(k.addr, k.port)
		}
	}
	return r
}

func (f *fold) conn(folded event.Fold) *event.Conn {
	k, p := f.key, f.pending
	c := &event.Conn{
		Step: k.step, Protocol: k.protocol, Name: k.name, RawName: k.rawName, OrigName: k.origName, Port: k.port,
		Verdict: k.verdict, Reason: k.reason, Rule: k.rule, RulePos: k.rulePos, Expected: k.expected,
		Up: p.up, Down: p.down, Fold: folded,
	}
	if k.addr.IsValid() {
		c.Orig = netip.AddrPortFrom(k.addr, k.port)
	}
	if k.exe != "" || k.chain != "" || k.gone || k.note != "" {
		c.Process = &event.Process{Exe: k.exe, Gone: k.gone, Note: k.note}
		if k.chain != "" {
			c.Process.Chain = strings.Split(k.chain, "\n")
		}
	}
	if k.flags != "" {
		c.Flags = strings.Split(k.flags, ",")
	}
	if k.overflow {
		c.Detail = OverflowDetail
	}
	return c
}
