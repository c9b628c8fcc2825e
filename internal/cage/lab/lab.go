// Package lab builds private network namespaces for tests: the cage, steps on
// point-to-point links as the CNI plugin makes them, and an uplink with a
// neighbour that sees every frame. Only tests import it.
package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/contract"
)

// Gate is the environment variable that asks for tests in namespaces.
const Gate = "BUILDCAGE_TEST_NETNS"

const inside = "BUILDCAGE_TEST_INSIDE"

// Enter runs the calling test again in a process of its own with private
// network, mount and PID namespaces, and reports true there. In the outer
// process it reports the result and returns false.
func Enter(t *testing.T) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		mountProc(t)
		return true
	}
	if os.Getenv(Gate) == "" {
		t.Skipf("set %s=1 and run as root to test in private namespaces", Gate)
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v=true", "-test.count=1", "-test.timeout=2m")
	cmd.Args = append(cmd.Args, updateFlag()...)
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Pdeathsig:  syscall.SIGKILL,
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	out, err := cmd.CombinedOutput()
	t.Logf("inside:\n%s", out)
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("the test inside the namespaces failed: %v", err)
	}
	return false
}

func updateFlag() []string {
	for _, a := range os.Args {
		if a == "-update" || a == "-update=true" {
			return []string{a}
		}
	}
	return nil
}

func mountProc(t *testing.T) {
	t.Helper()
	must(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	must(t, unix.Mount("proc", "/proc", "proc", 0, ""))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Space is a network namespace.
type Space struct{ handle netns.NsHandle }

// New makes an empty namespace with lo up.
func New(t *testing.T) *Space {
	t.Helper()
	s := &Space{}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		var err error
		if s.handle, err = netns.New(); err == nil {
			err = errors.Join(linkUp("lo"), withoutDAD())
		}
		done <- err
	}()
	must(t, <-done)
	t.Cleanup(func() { s.handle.Close() })
	return s
}

// Path names the namespace in the file system of this process.
func (s *Space) Path() string { return fmt.Sprintf("/proc/self/fd/%d", int(s.handle)) }

// Do runs f in the namespace. f must not start goroutines that need it.
func (s *Space) Do(t *testing.T, f func() error) {
	t.Helper()
	must(t, s.Try(f))
}

// Try is Do for what may fail.
func (s *Space) Try(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		if err := netns.Set(s.handle); err != nil {
			done <- err
			return
		}
		done <- f()
	}()
	return <-done
}

// withoutDAD lets IPv6 addresses work at once in this namespace.
func withoutDAD() error {
	return os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0)
}

func linkUp(name string) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding %s: %w", name, err)
	}
	return netlink.LinkSetUp(l)
}

// Uplink gives the cage (the namespace of the process) an interface up0 with
// 10.200.0.2 and a default route to the returned neighbour, 10.200.0.1; both
// with addresses of fd00:200::/64 too.
func Uplink(t *testing.T) *Space {
	t.Helper()
	must(t, withoutDAD())
	n := New(t)
	pair(t, "up0", "up1", n)
	must(t, address("up0", "10.200.0.2/24", "fd00:200::2/64"))
	n.Do(t, func() error { return address("up1", "10.200.0.1/24", "fd00:200::1/64") })
	for _, gw := range []string{"10.200.0.1", "fd00:200::1"} {
		must(t, netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)}))
	}
	return n
}

// Step is a step's namespace and its addresses.
type Step struct {
	*Space
	Addr4, Addr6 netip.Addr
	Link         string // the cage's end
}

// NewStep makes step n (from 2) the way the ptp plugin does: one address out
// of the step networks, everything via the gateway, a host route back.
func NewStep(t *testing.T, n byte) *Step {
	t.Helper()
	s := &Step{Space: New(t), Link: fmt.Sprintf("vstep%d", n)}
	s.Addr4 = nth(contract.StepNet4.Addr(), n)
	s.Addr6 = nth(contract.StepNet6.Addr(), n)
	gw4, gw6 := nth(contract.StepNet4.Addr(), 1), nth(contract.StepNet6.Addr(), 1)
	pair(t, s.Link, "eth0", s.Space)
	must(t, address(s.Link, gw4.String()+"/32", gw6.String()+"/128"))
	l, err := netlink.LinkByName(s.Link)
	must(t, err)
	for _, a := range []netip.Addr{s.Addr4, s.Addr6} {
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: host(a)}
		if a.Is4() {
			r.Scope = netlink.SCOPE_LINK
		}
		must(t, netlink.RouteAdd(r))
	}
	s.Do(t, func() error { return s.configure(gw4, gw6) })
	s.introduce(t, gw6)
	return s
}

// introduce makes the two ends of the link IPv6 neighbours: the first
// solicitation on a link that just came up may be lost for a second.
func (s *Step) introduce(t *testing.T, gw6 netip.Addr) {
	t.Helper()
	here, err := netlink.LinkByName(s.Link)
	must(t, err)
	var there netlink.Link
	s.Do(t, func() error {
		if there, err = netlink.LinkByName("eth0"); err != nil {
			return err
		}
		return netlink.NeighSet(neighbour(there, gw6, here.Attrs().HardwareAddr))
	})
	must(t, netlink.NeighSet(neighbour(here, s.Addr6, there.Attrs().HardwareAddr)))
	must(t, settled(here))
	s.Do(t, func() error { return settled(there) })
}

// settled waits until the kernel takes the IPv6 addresses of the link for its
// own: even without duplicate detection it does so in the background, and
// drops what arrives before.
func settled(l netlink.Link) error {
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		addrs, err := netlink.AddrList(l, unix.AF_INET6)
		if err != nil {
			return fmt.Errorf("listing addresses of %s: %w", l.Attrs().Name, err)
		}
		if !slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 }) {
			return nil
		}
	}
	return fmt.Errorf("the addresses of %s stay tentative", l.Attrs().Name)
}

func neighbour(l netlink.Link, a netip.Addr, mac net.HardwareAddr) *netlink.Neigh {
	return &netlink.Neigh{
		LinkIndex: l.Attrs().Index, Family: unix.AF_INET6, State: netlink.NUD_PERMANENT, IP: a.AsSlice(), HardwareAddr: mac,
	}
}

func (s *Step) configure(gw4, gw6 netip.Addr) error {
	if err := address("eth0", s.Addr4.String()+"/32", s.Addr6.String()+"/128"); err != nil {
		return err
	}
	l, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	for _, gw := range []netip.Addr{gw4, gw6} {
		direct := &netlink.Route{LinkIndex: l.Attrs().Index, Dst: host(gw)}
		if gw.Is4() {
			direct.Scope = netlink.SCOPE_LINK
		}
		if err := netlink.RouteAdd(direct); err != nil {
			return fmt.Errorf("routing to %s: %w", gw, err)
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: l.Attrs().Index, Gw: gw.AsSlice()}); err != nil {
			return fmt.Errorf("routing via %s: %w", gw, err)
		}
	}
	return nil
}

func nth(a netip.Addr, n byte) netip.Addr {
	b := a.AsSlice()
	b[len(b)-1] += n
	out, _ := netip.AddrFromSlice(b)
	return out
}

func host(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
}

func pair(t *testing.T, here, there string, other *Space) {
	t.Helper()
	must(t, netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: here}, PeerName: there, PeerNamespace: netlink.NsFd(other.handle),
	}))
	must(t, linkUp(here))
	other.Do(t, func() error { return linkUp(there) })
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
		if a.IP.To4() == nil {
			a.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrAdd(l, a); err != nil {
			return fmt.Errorf("adding %s to %s: %w", cidr, link, err)
		}
	}
	return nil
}
