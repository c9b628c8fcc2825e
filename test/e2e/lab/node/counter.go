package main

import (
	"cmp"
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// maxKeys bounds a table: what comes after shares one entry, so that a flood
// is counted and can't fill the memory.
const maxKeys = 100_000

// counter is what a node counted since its last reset.
type counter struct {
	mu       sync.Mutex
	flows    map[wire.Flow]*wire.Flow
	arrivals map[wire.Arrival]*wire.Arrival
	queries  map[wire.Query]*wire.Query
	tokens   map[string]int64
	token    *regexp.Regexp
	drain    func() // reads what the kernel still has; nil: nothing
}

func newCounter() *counter {
	c := &counter{token: regexp.MustCompile(wire.TokenPattern)}
	c.reset()
	return c
}

func (c *counter) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flows, c.arrivals = make(map[wire.Flow]*wire.Flow), make(map[wire.Arrival]*wire.Arrival)
	c.queries, c.tokens = make(map[wire.Query]*wire.Query), make(map[string]int64)
}

func entry[T comparable](table map[T]*T, key, overflow T) *T {
	if e := table[key]; e != nil {
		return e
	}
	if len(table) >= maxKeys {
		key = overflow
		if e := table[key]; e != nil {
			return e
		}
	}
	table[key] = &key
	return &key
}

func (c *counter) flow(proto string, src, dst netip.Addr, port uint16, syn bool, payload []byte, size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	key := wire.Flow{Proto: proto, Src: src, Dst: dst, Port: port}
	f := entry(c.flows, key, wire.Flow{Proto: proto})
	f.Packets++
	f.Bytes += int64(size)
	if syn {
		f.SYNs++
	}
	c.find(proto, payload)
}

func (c *counter) arrive(kind, name string, orig netip.AddrPort, detail string, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if name == "" {
		name = "-"
	}
	a := entry(c.arrivals, wire.Arrival{Kind: kind, Name: name, Orig: orig, Detail: detail}, wire.Arrival{Kind: kind, Name: "(more)"})
	a.Count++
	a.Bytes += bytes
}

func (c *counter) query(name, typ, network string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := entry(c.queries, wire.Query{Name: name, Type: typ, Net: network}, wire.Query{Name: "(more)"})
	q.Count++
	c.find("dns", []byte(name))
}

// look searches bytes for canary tokens.
func (c *counter) look(where string, b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.find(where, b)
}

func (c *counter) find(where string, b []byte) {
	for _, t := range c.token.FindAll(b, -1) {
		if len(c.tokens) < maxKeys {
			c.tokens[where+" "+strings.ToLower(string(t))]++
		}
	}
}

func (c *counter) state() wire.State {
	if c.drain != nil {
		c.drain()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return wire.State{
		Flows: values(c.flows, func(a, b wire.Flow) int {
			return cmp.Or(cmp.Compare(a.Proto, b.Proto), a.Dst.Compare(b.Dst), cmp.Compare(a.Port, b.Port))
		}),
		Arrivals: values(c.arrivals, func(a, b wire.Arrival) int {
			return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), a.Orig.Compare(b.Orig))
		}),
		Queries: values(c.queries, func(a, b wire.Query) int {
			return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Type, b.Type))
		}),
		Tokens: maps.Clone(c.tokens),
	}
}

func values[T comparable](table map[T]*T, order func(a, b T) int) []T {
	list := make([]T, 0, len(table))
	for _, v := range table {
		list = append(list, *v)
	}
	slices.SortFunc(list, order)
	return list
}
