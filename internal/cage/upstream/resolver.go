package upstream

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// lookupTimeout bounds one lookup over all servers and attempts.
	lookupTimeout = 5 * time.Second
	// attemptTimeout is how long one server has for one question.
	attemptTimeout = 1500 * time.Millisecond
	// rounds is how often the list of servers is gone through.
	rounds = 2
	// patience is how long the second address family may lag behind the first (RFC 8305, section 3).
	patience = 50 * time.Millisecond

	minTTL      = time.Second
	maxTTL      = 60 * time.Second
	negativeTTL = time.Second
	maxCache    = 4096
	maxAddrs    = 64 // of one name
)

// Errors that a NameError wraps.
var (
	ErrNoSuchName = errors.New("no such name")
	ErrNoAddress  = errors.New("no address")
	ErrNoServer   = errors.New("no resolver configured")
)

// Resolver asks recursive resolvers for the addresses of absolute names. Hosts
// files and search domains play no part. It is safe for concurrent use.
type Resolver struct {
	Servers []netip.AddrPort
	Mark    int // SO_MARK on its sockets, 0: none

	now func() time.Time // nil: time.Now

	mu      sync.Mutex
	cache   map[string]entry
	flights map[string]*flight
}

type entry struct {
	addrs   []netip.Addr
	err     error
	expires time.Time
}

// flight is a lookup that several callers wait for.
type flight struct {
	done chan struct{}
	entry
}

// Lookup returns the addresses of a canonical name, v4 first. The error is a
// *NameError, or the context's. Nobody is asked for localhost (RFC 6761).
func (r *Resolver) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}, nil
	}
	r.mu.Lock()
	if e, ok := r.cache[name]; ok && r.clock().Before(e.expires) {
		r.mu.Unlock()
		return e.addrs, e.err
	}
	f := r.flights[name]
	if f == nil {
		f = &flight{done: make(chan struct{})}
		if r.flights == nil {
			r.flights, r.cache = make(map[string]*flight), make(map[string]entry)
		}
		r.flights[name] = f
		// Not the caller's context: others may wait for the same answer.
		go r.fly(context.WithoutCancel(ctx), name, f)
	}
	r.mu.Unlock()
	select {
	case <-f.done:
		return f.addrs, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *Resolver) clock() time.Time {
	if r.now != nil {
		return r.now()
	}
	return time.Now()
}

func (r *Resolver) fly(ctx context.Context, name string, f *flight) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	addrs, ttl, err := r.both(ctx, name)
	if err != nil {
		err, ttl = &NameError{name, err}, negativeTTL
	}
	f.entry = entry{addrs, err, r.clock().Add(min(max(ttl, minTTL), maxTTL))}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.makeRoom()
	r.cache[name] = f.entry
	delete(r.flights, name)
	close(f.done)
}

// makeRoom drops what has expired, then anything, when the cache is full.
func (r *Resolver) makeRoom() {
	if len(r.cache) < maxCache {
		return
	}
	now := r.clock()
	for name, e := range r.cache {
		if !now.Before(e.expires) {
			delete(r.cache, name)
		}
	}
	for name := range r.cache {
		if len(r.cache) < maxCache {
			return
		}
		delete(r.cache, name)
	}
}

// both asks for A and AAAA at once. One family's answer is enough.
func (r *Resolver) both(ctx context.Context, name string) ([]netip.Addr, time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	results := make(chan answer, 2)
	for _, family := range families {
		go func() { results <- r.ask(ctx, name, family) }()
	}
	first := <-results
	var late <-chan time.Time
	if len(first.addrs) > 0 {
		t := time.NewTimer(patience)
		defer t.Stop()
		late = t.C
	}
	select {
	case second := <-results:
		return merge(first, second)
	case <-late:
		return merge(first, answer{})
	}
}

func merge(a, b answer) ([]netip.Addr, time.Duration, error) {
	if len(b.addrs) > 0 && (len(a.addrs) == 0 || b.addrs[0].Is4() && !a.addrs[0].Is4()) {
		a, b = b, a
	}
	if len(a.addrs) > 0 {
		ttl := a.ttl
		if len(b.addrs) > 0 {
			ttl = min(ttl, b.ttl)
		}
		return append(a.addrs, b.addrs...), ttl, nil
	}
	for _, err := range []error{a.err, b.err} {
		if err != nil && !errors.Is(err, ErrNoAddress) {
			return nil, 0, err
		}
	}
	return nil, 0, ErrNoAddress
}
