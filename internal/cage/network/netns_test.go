package network_test

import (
	"net"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/buildcage/buildcage/internal/cage/lab"
	"github.com/buildcage/buildcage/internal/cage/network"
	"github.com/buildcage/buildcage/internal/contract"
)

// What is for a step goes to its link or nowhere, also without a firewall.
func TestNoWayOutForSteps(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	link := func(name, address string) int {
		l := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "of-" + name}
		must(t, netlink.LinkAdd(l))
		must(t, netlink.LinkSetUp(l))
		peer, err := netlink.LinkByName(l.PeerName)
		must(t, err)
		must(t, netlink.LinkSetUp(peer))
		a, err := netlink.ParseAddr(address)
		must(t, err)
		must(t, netlink.AddrAdd(l, a))
		return l.Attrs().Index
	}
	up := link("up0", "192.0.2.2/24")
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: up, Gw: net.IPv4(192, 0, 2, 1)}))
	plan, err := network.Setup()
	must(t, err)
	steps := []net.IP{contract.StepNet4.Addr().Next().AsSlice()}
	if plan.IPv6 {
		steps = append(steps, contract.StepNet6.Addr().Next().AsSlice())
	}
	for _, step := range steps {
		if routes, err := netlink.RouteGet(step); err == nil {
			t.Errorf("%s: %+v", step, routes)
		}
	}
	if routes, err := netlink.RouteGet(net.IPv4(198, 51, 100, 1)); err != nil || routes[0].LinkIndex != up {
		t.Errorf("the way out: %+v, %v", routes, err)
	}
	own := link("step0", "192.0.2.129/32")
	must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: own, Scope: netlink.SCOPE_LINK, Dst: &net.IPNet{IP: steps[0], Mask: net.CIDRMask(32, 32)}}))
	if routes, err := netlink.RouteGet(steps[0]); err != nil || routes[0].LinkIndex != own {
		t.Errorf("a step's own link: %+v, %v", routes, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
