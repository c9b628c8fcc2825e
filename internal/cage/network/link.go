package network

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/contract"
)

// Link is a step's connection to the cage: one veth pair.
type Link struct {
	Addrs []netip.Addr // of the step, v4 first
	Index int          // of the cage's end
}

// Join reads the link of the network namespace at path and, with ipv6, gives
// it the IPv6 address that goes with its IPv4 address. The CNI plugin could do
// that too, but waits a second or two for duplicate address detection, on a
// link with two ends and addresses that are ours.
func Join(path string, ipv6 bool) (*Link, error) {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return nil, fmt.Errorf("opening the step's network namespace: %w", err)
	}
	defer ns.Close()
	own, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("opening the cage's network namespace: %w", err)
	}
	defer own.Close()
	if ns.Equal(own) {
		return nil, errors.New("the step's network namespace is the cage's own")
	}
	inside, err := netlink.NewHandleAt(ns, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("entering the step's network namespace: %w", err)
	}
	defer inside.Close()
	there, addr4, has6, err := ends(inside)
	if err != nil {
		return nil, err
	}
	l := &Link{Addrs: []netip.Addr{addr4}, Index: there.Attrs().ParentIndex}
	if !ipv6 {
		return l, nil
	}
	addr6 := sibling(addr4)
	l.Addrs = append(l.Addrs, addr6)
	if slices.Contains(has6, addr6) {
		return l, nil // the namespace was used before
	}
	here, err := netlink.LinkByIndex(l.Index)
	if err != nil {
		return nil, fmt.Errorf("finding the cage's end of the step's link: %w", err)
	}
	return l, join6(inside, here, there, addr6)
}

// ends finds the step's interface and its addresses of ours.
func ends(inside *netlink.Handle) (link netlink.Link, addr4 netip.Addr, addrs6 []netip.Addr, err error) {
	list, err := inside.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, addr4, nil, fmt.Errorf("listing the step's addresses: %w", err)
	}
	index := 0
	for _, a := range list {
		ip, _ := netip.AddrFromSlice(a.IP)
		switch ip = ip.Unmap(); {
		case contract.StepNet4.Contains(ip):
			addr4, index = ip, a.LinkIndex
		case contract.StepNet6.Contains(ip):
			addrs6 = append(addrs6, ip)
		}
	}
	if index == 0 {
		return nil, addr4, nil, errors.New("the step's network namespace has none of the cage's addresses")
	}
	if link, err = inside.LinkByIndex(index); err != nil {
		return nil, addr4, nil, fmt.Errorf("finding the step's interface: %w", err)
	}
	return link, addr4, addrs6, nil
}

// sibling is the IPv6 step address with the host part of an IPv4 one.
func sibling(addr4 netip.Addr) netip.Addr {
	b4, b6 := addr4.As4(), contract.StepNet6.Addr().As16()
	binary.BigEndian.PutUint16(b6[14:], binary.BigEndian.Uint16(b4[2:]))
	return netip.AddrFrom16(b6)
}

// join6 does what ptp does, without asking whether anybody else has the
// addresses, and tells both ends who the other one is.
func join6(inside *netlink.Handle, here, there netlink.Link, addr6 netip.Addr) error {
	gateway := contract.StepNet6.Addr().Next()
	outside := &netlink.Handle{}
	for _, end := range []struct {
		h           *netlink.Handle
		link, other netlink.Link
		own, peer   netip.Addr
	}{{outside, here, there, gateway, addr6}, {inside, there, here, addr6, gateway}} {
		own := &netlink.Addr{IPNet: ipNet(single(end.own)), Flags: unix.IFA_F_NODAD}
		if err := end.h.AddrReplace(end.link, own); err != nil {
			return fmt.Errorf("adding %s to the step's link: %w", end.own, err)
		}
		index := end.link.Attrs().Index
		neighbour := &netlink.Neigh{
			LinkIndex: index, Family: unix.AF_INET6, State: netlink.NUD_PERMANENT,
			IP: end.peer.AsSlice(), HardwareAddr: end.other.Attrs().HardwareAddr,
		}
		if err := end.h.NeighSet(neighbour); err != nil {
			return fmt.Errorf("introducing %s on the step's link: %w", end.peer, err)
		}
		if err := end.h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: ipNet(single(end.peer))}); err != nil {
			return fmt.Errorf("routing %s over the step's link: %w", end.peer, err)
		}
	}
	all := &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	route := &netlink.Route{LinkIndex: there.Attrs().Index, Dst: all, Gw: gateway.AsSlice()}
	if err := inside.RouteReplace(route); err != nil {
		return fmt.Errorf("routing the step's IPv6: %w", err)
	}
	return nil
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
