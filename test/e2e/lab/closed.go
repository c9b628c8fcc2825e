package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"

	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// outside are addresses that a leak would go to. The check sends nothing
// anywhere unless the routes lead to the sink.
func outside() []string { return []string{wire.SinkPublic, "192.0.2.77", "169.254.169.254"} }

// checkClosed proves, from a container as a cage is one, that the network is
// internal, that its only ways lead to the lab, and that an outside address is
// the sink's: else hostile builds must not be run here.
func (l *Lab) checkClosed(ctx context.Context) error {
	internal, err := docker(ctx, "network", "inspect", "--format", "{{.Internal}}", Network)
	if err != nil {
		return err
	}
	if internal != "true" {
		return errors.New("the lab's network is not internal")
	}
	// A resolver is as good a container as any, and counts nothing.
	id, err := docker(ctx, "run", "-d", "--rm", "--label", label+"=1", "--log-driver", "none", "--network", Network, l.image, "names")
	if err != nil {
		return err
	}
	defer func() { _, _ = docker(context.WithoutCancel(ctx), "rm", "-fv", id) }()
	pid, err := pidOf(ctx, id)
	if err != nil {
		return err
	}
	space, err := netns.GetFromPid(pid)
	if err != nil {
		return err
	}
	defer space.Close()
	c, err := attach(pid)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := inSpace(space, onlyLab); err != nil {
		return err
	}
	for _, a := range outside() {
		if err := l.leadsToSink(ctx, space, a); err != nil {
			return err
		}
	}
	return l.Sink.Reset(ctx)
}

// onlyLab wants no route but those within the lab. An engine may give an
// internal network a default route to its machine, which drops what comes; it
// must be gone.
func onlyLab() error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := netlink.RouteList(nil, family)
		if err != nil {
			return fmt.Errorf("listing routes: %w", err)
		}
		for _, r := range list {
			to := r.Gw
			if to == nil && r.Dst != nil {
				to = r.Dst.IP
			}
			if !inLab(to) || r.Gw.Equal(net.ParseIP(wire.Bridge)) {
				return fmt.Errorf("the lab has a route that leads out of it: %v", r)
			}
		}
	}
	return nil
}

func inLab(ip net.IP) bool {
	a, ok := netip.AddrFromSlice(ip)
	if !ok {
		return false
	}
	a = a.Unmap()
	return netip.MustParsePrefix(wire.Subnet).Contains(a) || netip.MustParsePrefix(wire.Subnet6).Contains(a) ||
		a.IsLinkLocalUnicast() || a.IsMulticast()
}

// leadsToSink connects to the address and wants the sink to have seen it.
func (l *Lab) leadsToSink(ctx context.Context, space netns.NsHandle, addr string) error {
	var conn net.Conn
	err := inSpace(space, func() (err error) {
		conn, err = net.DialTimeout("tcp", net.JoinHostPort(addr, "443"), 3*time.Second)
		return err
	})
	if err != nil {
		return fmt.Errorf("an outside address does not lead to the sink: %w", err)
	}
	// With a reset: an end in peace has packets that come when a cage has this address.
	err = errors.Join(conn.(*net.TCPConn).SetLinger(0), conn.Close())
	if err != nil {
		return fmt.Errorf("closing the connection to an outside address: %w", err)
	}
	s, err := l.Sink.State(ctx)
	if err != nil {
		return err
	}
	for _, f := range s.Flows { // counted at the packet, so before the connection stood
		if f.Dst.String() == addr && f.SYNs > 0 {
			return nil
		}
	}
	return fmt.Errorf("something that is not the sink answers at %s", addr)
}
