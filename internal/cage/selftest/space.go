package selftest

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/contract"
)

// linkName is the cage's end of the test's link.
const linkName = "selftest0"

// space is a network namespace with a link as the CNI plugin makes it, but for
// IPv6, which every step's link gets when it is registered.
type space struct {
	ns   netns.NsHandle
	link netlink.Link
}

func (s *space) path() string { return fmt.Sprintf("/proc/self/fd/%d", int(s.ns)) }

func (s *space) inside(f func() error) error { return inside(s.ns, f) }

func (s *space) close() {
	if s.link != nil {
		_ = netlink.LinkDel(s.link) // closing the namespace deletes it too, later
	}
	_ = s.ns.Close()
}

func open() (*space, error) {
	s := &space{}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		ns, err := netns.New()
		s.ns = ns
		done <- err
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("making the self-test's network: %w", err)
	}
	if err := s.connect(); err != nil {
		s.close()
		return nil, fmt.Errorf("making the self-test's network: %w", err)
	}
	return s, nil
}

// address is the last one of the step network, which is the last to be given
// to a step; the gateway is the one that the plugin gives to its ends.
func addresses() (address, gateway netip.Addr) {
	b := contract.StepNet4.Addr().As4()
	b[2], b[3] = 255, 254
	return netip.AddrFrom4(b), contract.StepNet4.Addr().Next()
}

func (s *space) connect() error {
	address, gateway := addresses()
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: linkName}, PeerName: "eth0", PeerNamespace: netlink.NsFd(s.ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("adding a link: %w", err)
	}
	var err error
	if s.link, err = netlink.LinkByName(linkName); err != nil {
		return fmt.Errorf("finding the link: %w", err)
	}
	if err := configure(&netlink.Handle{}, s.link, gateway, address, false); err != nil {
		return err
	}
	h, err := netlink.NewHandleAt(s.ns, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("entering it: %w", err)
	}
	defer h.Close()
	inner, err := h.LinkByName("eth0")
	if err != nil {
		return fmt.Errorf("finding its link: %w", err)
	}
	return configure(h, inner, address, gateway, true)
}

func configure(h *netlink.Handle, link netlink.Link, own, peer netip.Addr, all bool) error {
	index := link.Attrs().Index
	errs := []error{
		h.LinkSetUp(link),
		h.AddrReplace(link, &netlink.Addr{IPNet: single(own)}),
		h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: single(peer), Scope: netlink.SCOPE_LINK}),
	}
	if all {
		zero := &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
		errs = append(errs, h.RouteReplace(&netlink.Route{LinkIndex: index, Dst: zero, Gw: peer.AsSlice()}))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("configuring %s: %w", link.Attrs().Name, err)
	}
	return nil
}

func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}
