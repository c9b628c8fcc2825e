// Package network prepares the network namespace of the cage: kernel settings,
// the loopback addresses that proxy and nameserver listen on, and the routes
// that let the builder connect to fake addresses without a way out.
package network

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/contract"
)

// Plan is what was found and made.
type Plan struct {
	// Uplinks are the interfaces that lead out of the cage.
	Uplinks []string
	// Own are the addresses of the cage, those on lo included.
	Own []netip.Addr
	// Gateways are the next hops outside: the engine's, as a rule.
	Gateways []netip.Addr
	// MTU is the smallest of the uplinks.
	MTU int
	// IPv6 says whether the kernel does IPv6 here.
	IPv6 bool
	// NoIPv6 is why not.
	NoIPv6 error
}

// Setup prepares the namespace of the caller.
func Setup() (*Plan, error) {
	p := &Plan{MTU: 1500}
	if err := p.findUplinks(); err != nil {
		return nil, err
	}
	p.NoIPv6 = enableIPv6("/proc/sys")
	p.IPv6 = p.NoIPv6 == nil
	if err := settings(p.Uplinks, p.IPv6).apply("/proc/sys"); err != nil {
		return nil, err
	}
	if err := hold(contract.Listen4, contract.FakeNet4, contract.StepNet4); err != nil {
		return nil, err
	}
	if p.IPv6 {
		if err := hold(contract.Listen6, contract.FakeNet6, contract.StepNet6); err != nil {
			p.IPv6, p.NoIPv6 = false, err
		}
	}
	if err := p.findSelf(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Plan) findUplinks() error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("listing interfaces: %w", err)
	}
	for _, l := range links {
		a := l.Attrs()
		if a.Flags&net.FlagLoopback != 0 {
			continue
		}
		p.Uplinks = append(p.Uplinks, a.Name)
		if up := a.Flags&net.FlagUp != 0; up && a.MTU > 0 && a.MTU < p.MTU {
			p.MTU = a.MTU
		}
	}
	return nil
}

// Guard lists what nothing in the cage may be led to.
func (p *Plan) Guard() []netip.Prefix {
	var list []netip.Prefix
	for _, a := range slices.Concat(p.Own, p.Gateways) {
		list = append(list, netip.PrefixFrom(a, a.BitLen()))
	}
	return list
}

func (p *Plan) findSelf() error {
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		addrs, err := netlink.AddrList(nil, family)
		if err != nil && family == unix.AF_INET {
			return fmt.Errorf("listing addresses: %w", err)
		}
		for _, a := range addrs {
			p.Own = appendIP(p.Own, a.IP)
		}
		routes, err := netlink.RouteList(nil, family)
		if err != nil && family == unix.AF_INET {
			return fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range routes {
			p.Gateways = appendIP(p.Gateways, r.Gw)
		}
	}
	return nil
}

func appendIP(list []netip.Addr, ip net.IP) []netip.Addr {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return list
	}
	return append(list, a.Unmap())
}

// hold puts the address on lo and routes the fake network there, as unicast:
// its addresses are never local. What is for a step without a link goes nowhere.
func hold(addr netip.Addr, fake, steps netip.Prefix) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("finding lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("setting lo up: %w", err)
	}
	a := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, addr.BitLen()))}
	if addr.Is6() {
		a.Flags = unix.IFA_F_NODAD
	}
	if err := netlink.AddrReplace(lo, a); err != nil {
		return fmt.Errorf("adding %s to lo: %w", addr, err)
	}
	r := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: ipNet(fake), Src: addr.AsSlice()}
	if addr.Is4() {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("routing %s to lo: %w", fake, err)
	}
	return errors.Join(swallow(steps), prohibitRest(addr))
}

// swallow drops what no link of a step takes. The default route leads out, and
// when the namespace ends, the firewall does so before the kernel has said all it has to say.
func swallow(steps netip.Prefix) error {
	r := &netlink.Route{Dst: ipNet(steps), Type: unix.RTN_BLACKHOLE}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("routing %s nowhere: %w", steps, err)
	}
	return nil
}

// lastMetric is behind every route that an engine sets.
const lastMetric = 1<<31 - 1

// prohibitRest refuses what no route leads to. The firewall refuses forwarded
// packets in its forward chain, which a packet without a route never reaches,
// and the kernel's own "no route" is an error that sockets do not hear of: a
// step's client would wait instead of failing (RFC 4443, section 3.1). A route
// by way of lo would not do: the kernel takes that for "no route" in IPv6.
func prohibitRest(family netip.Addr) error {
	all := &net.IPNet{IP: make(net.IP, family.BitLen()/8), Mask: net.CIDRMask(0, family.BitLen())}
	r := &netlink.Route{Dst: all, Type: unix.RTN_PROHIBIT, Priority: lastMetric}
	if err := netlink.RouteReplace(r); err != nil {
		return fmt.Errorf("prohibiting what has no route: %w", err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// enableIPv6 turns IPv6 on for lo and for interfaces to come. The uplinks keep
// what the engine gave them.
func enableIPv6(root string) error {
	if _, err := os.Stat("/proc/net/if_inet6"); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("the kernel has no IPv6")
		}
		return err
	}
	for _, scope := range []string{"default", "lo"} {
		if err := write(root, "net/ipv6/conf/"+scope+"/disable_ipv6", "0"); err != nil {
			return err
		}
	}
	return nil
}
