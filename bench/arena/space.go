package arena

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// space is a network namespace.
type space struct{ handle netns.NsHandle }

func newSpace() (*space, error) {
	s := &space{}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		var err error
		if s.handle, err = netns.New(); err == nil {
			err = up("lo")
		}
		done <- err
	}()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("making a network namespace: %w", err)
	}
	return s, nil
}

// do runs f in the namespace. f must not start goroutines that need it.
func (s *space) do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(s.handle); err != nil {
			done <- fmt.Errorf("entering a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// path names the namespace for other processes of the arena.
func (s *space) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), int(s.handle)) }

// frugal lets the namespace open connections without end: what is over is
// forgotten soon.
func frugal() error {
	for path, value := range map[string]string{
		"net/ipv4/ip_local_port_range":                          "1024 65000",
		"net/ipv4/tcp_tw_reuse":                                 "1",
		"net/core/somaxconn":                                    "16384",
		"net/netfilter/nf_conntrack_tcp_timeout_time_wait":      "1",
		"net/netfilter/nf_conntrack_tcp_timeout_close":          "1",
		"net/netfilter/nf_conntrack_tcp_timeout_last_ack":       "1",
		"net/netfilter/nf_conntrack_tcp_timeout_fin_wait":       "1",
		"net/netfilter/nf_conntrack_tcp_timeout_close_wait":     "1",
		"net/netfilter/nf_conntrack_tcp_timeout_unacknowledged": "1",
	} {
		if err := os.WriteFile("/proc/sys/"+path, []byte(value), 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("setting %s: %w", path, err)
		}
	}
	return nil
}

func up(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding %s: %w", name, err)
	}
	return netlink.LinkSetUp(l)
}

func address(link string, cidrs ...string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("finding %s: %w", link, err)
	}
	for _, cidr := range cidrs {
		a, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return fmt.Errorf("adding %s to %s: %w", cidr, link, err)
		}
	}
	return nil
}

// route leads to one address, or anywhere, over a link.
func route(link string, to, via netip.Addr) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return fmt.Errorf("finding %s: %w", link, err)
	}
	r := &netlink.Route{LinkIndex: l.Attrs().Index}
	if to.IsValid() {
		r.Scope, r.Dst = netlink.SCOPE_LINK, &net.IPNet{IP: to.AsSlice(), Mask: net.CIDRMask(32, 32)}
	} else {
		r.Gw = via.AsSlice()
	}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("adding a route over %s: %w", link, err)
	}
	return nil
}

// pair links two namespaces.
func pair(here *space, name string, cidrs []string, there *space, peer string, peerCIDRs []string) error {
	err := here.do(func() error {
		if err := netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: peer, PeerNamespace: netlink.NsFd(there.handle),
		}); err != nil {
			return fmt.Errorf("adding link %s: %w", name, err)
		}
		return errors.Join(up(name), address(name, cidrs...))
	})
	return errors.Join(err, there.do(func() error { return errors.Join(up(peer), address(peer, peerCIDRs...)) }))
}
