package policy

import (
	"encoding/binary"
	"net/netip"
)

// Class is what the guard thinks of an address.
type Class int

const (
	// Forbidden is never dialled. It is the zero value, so that doubt forbids.
	Forbidden Class = iota
	// Self is an address of the cage or the engine: never dialled.
	Self
	// Private is RFC 1918 or ULA: dialled where the policy opens it.
	Private
	// Public is dialled.
	Public
)

func (c Class) String() string {
	return [...]string{"forbidden", "self", "private", "public"}[c]
}

// Guard classifies the addresses that the proxy is about to dial.
type Guard struct{ own, forbidden, private []netip.Prefix }

// NewGuard returns a guard that knows the cage's and the engine's own
// prefixes on top of the ones that are guarded always.
func NewGuard(own []netip.Prefix) *Guard {
	g := &Guard{forbidden: forbiddenNets(), private: privateNets()}
	for _, p := range own {
		g.own = append(g.own, netip.PrefixFrom(p.Addr().Unmap(), unmapBits(p)).Masked())
	}
	return g
}

func unmapBits(p netip.Prefix) int {
	if p.Addr().Is4In6() {
		return max(p.Bits()-96, 0)
	}
	return p.Bits()
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

func privateNets() []netip.Prefix {
	return prefixes("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
}

// forbiddenNets are guarded always. The documentation ranges are not among
// them. In v6 everything outside 2000::/3 and ULA is forbidden anyway.
func forbiddenNets() []netip.Prefix {
	return prefixes(
		"0.0.0.0/8",        // this network; 0.0.0.0 is loopback to many a kernel
		"100.64.0.0/10",    // carrier-grade NAT, and a cloud's metadata
		"127.0.0.0/8",      // loopback
		"168.63.129.16/32", // a cloud's metadata on a public address
		"169.254.0.0/16",   // link-local, and metadata
		"192.0.0.0/24",     // protocol assignments, and a cloud's metadata
		"198.18.0.0/15",    // benchmarking; here: fake and step addresses
		"224.0.0.0/4",      // multicast
		"240.0.0.0/4",      // reserved, and broadcast
		"2001::/32",        // Teredo: carries v4 addresses
		"fd00:ec2::254/128",
	)
}

// Check classifies an address. An address that carries a v4 address is judged
// by that one, in whatever notation it came.
func (g *Guard) Check(a netip.Addr) Class {
	if !a.IsValid() || a.Zone() != "" {
		return Forbidden
	}
	a = a.Unmap()
	if in(g.own, a) {
		return Self
	}
	if in(g.forbidden, a) {
		return Forbidden
	}
	if in(g.private, a) {
		return Private
	}
	if a.Is4() {
		return Public
	}
	if v4, ok := embedded(a); ok {
		switch class := g.Check(v4); class {
		case Private:
			return Forbidden // nothing can open a private address behind a translator
		default:
			return class
		}
	}
	if first := a.As16()[0]; first&0xe0 == 0x20 {
		return Public
	}
	return Forbidden
}

// embedded is the v4 address inside NAT64's well-known prefix, 6to4 and the
// translated form ::ffff:0:a.b.c.d.
func embedded(a netip.Addr) (netip.Addr, bool) {
	b := a.As16()
	high := binary.BigEndian.Uint64(b[:8])
	switch {
	case high == 0x0064ff9b_00000000 && binary.BigEndian.Uint32(b[8:12]) == 0,
		high == 0 && binary.BigEndian.Uint32(b[8:12]) == 0xffff0000:
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

func in(nets []netip.Prefix, a netip.Addr) bool {
	for _, p := range nets {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
