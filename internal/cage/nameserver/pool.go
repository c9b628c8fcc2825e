package nameserver

import (
	"encoding/binary"
	"net/netip"
	"sync"

	"github.com/buildcage/buildcage/internal/contract"
)

const (
	// slots is how many names have an address: 254 of each of the 256 last
	// bytes, without the one that caged listens on.
	slots = 256*254 - 1
	// stepNames is how many names one step may ask for first.
	stepNames = 4096
)

// Pool gives every name its own address, v4 and v6 in step, for the life of
// the cage. An address never gets a second name: whoever connects to it meant
// that name. So the pool can run out; then a new name gets no address. The
// zero value is ready to use.
type Pool struct {
	Size    int // names in total, 0: as many as there are addresses
	PerStep int // names that one step may bring, 0: 4 096

	mu     sync.RWMutex
	byName map[string]int
	names  []string       // by slot
	taken  map[string]int // by step
}

// Addr returns the addresses of a canonical name that has them.
func (p *Pool) Addr(name string) (v4, v6 netip.Addr, ok bool) {
	p.mu.RLock()
	slot, ok := p.byName[name]
	p.mu.RUnlock()
	if !ok {
		return netip.Addr{}, netip.Addr{}, false
	}
	v4, v6 = addrs(slot)
	return v4, v6, true
}

// Assign is Addr, but a name that is new gets its addresses now, on the budget
// of step. ok is false when the step or the pool has no more to give.
func (p *Pool) Assign(step, name string) (v4, v6 netip.Addr, ok bool) {
	if v4, v6, ok = p.Addr(name); ok {
		return v4, v6, true
	}
	slot, ok := p.add(step, name)
	if !ok {
		return netip.Addr{}, netip.Addr{}, false
	}
	v4, v6 = addrs(slot)
	return v4, v6, true
}

// shortage says who has no more to give.
func (p *Pool) shortage() string {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if len(p.names) >= p.size() {
		return "the cage has no addresses left for new names; it has them again when nobody builds in it"
	}
	return "too many names in one build step"
}

func (p *Pool) size() int {
	if p.Size <= 0 || p.Size > slots {
		return slots
	}
	return p.Size
}

func (p *Pool) add(step, name string) (slot int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if slot, ok := p.byName[name]; ok {
		return slot, true
	}
	perStep := p.PerStep
	if perStep <= 0 {
		perStep = stepNames
	}
	if len(p.names) >= p.size() || p.taken[step] >= perStep {
		return 0, false
	}
	if p.byName == nil {
		p.byName, p.taken = make(map[string]int), make(map[string]int)
	}
	slot = len(p.names)
	p.byName[name] = slot
	p.names = append(p.names, name)
	p.taken[step]++
	return slot, true
}

// Renew forgets all names when more than half of the pool is used, and reports
// whether it did. It is for a moment in which nothing runs that may have an
// answer: a cage that stays would run out of addresses.
func (p *Pool) Renew() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.names) <= p.size()/2 {
		return false
	}
	p.byName, p.names, p.taken = nil, nil, nil
	return true
}

// Name returns the name that addr stands for. It is false for every address
// that was not handed out.
func (p *Pool) Name(addr netip.Addr) (string, bool) {
	slot, ok := slotOf(addr.Unmap())
	if !ok {
		return "", false
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if slot >= len(p.names) {
		return "", false
	}
	return p.names[slot], true
}

// addrs are the addresses of a slot. Last bytes 0 and 255 are left out, as
// some programs take them for networks and broadcasts, and slot 0 begins
// after the listening address.
func addrs(slot int) (v4, v6 netip.Addr) {
	slot++
	host := uint16(slot/254<<8 | slot%254 + 1)
	b4, b6 := contract.FakeNet4.Addr().As4(), contract.FakeNet6.Addr().As16()
	binary.BigEndian.PutUint16(b4[2:], host)
	binary.BigEndian.PutUint16(b6[14:], host)
	return netip.AddrFrom4(b4), netip.AddrFrom16(b6)
}

func slotOf(addr netip.Addr) (int, bool) {
	var host int
	switch {
	case contract.FakeNet4.Contains(addr):
		b := addr.As4()
		host = int(binary.BigEndian.Uint16(b[2:]))
	case contract.FakeNet6.Contains(addr):
		b := addr.As16()
		host = int(binary.BigEndian.Uint16(b[14:]))
	default:
		return 0, false
	}
	slot := host>>8*254 + host&0xff - 2
	if slot < 0 || slot >= slots {
		return 0, false
	}
	// What doesn't map back was never handed out: a 0 or 255 at the end, a
	// v6 address with other bits.
	v4, v6 := addrs(slot)
	return slot, addr == v4 || addr == v6
}
