package firewall_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/firewall"
	"github.com/buildcage/buildcage/internal/cage/lab"
	"github.com/buildcage/buildcage/internal/contract"
)

// marked dials as the cage itself does.
func marked(network, dst string) (net.Conn, error) {
	d := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, contract.ProxyMark) })
	}}
	return d.Dial(network, dst)
}

// listen makes the neighbour say hello, and close.
func listen(t *testing.T, n *lab.Space, address string) {
	t.Helper()
	var l net.Listener
	n.Do(t, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.Write([]byte("hello"))
			conn.Close()
		}
	}()
}

// tracked is the number of connections that the kernel remembers.
func tracked(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_count")
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b))
}

func TestCageIsNotTracked(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	for _, dst := range []string{"10.200.0.1:7777", "[fd00:200::1]:7777"} {
		listen(t, c.neighbour, dst)
		conn, err := marked("tcp", dst)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if got, err := io.ReadAll(conn); err != nil || string(got) != "hello" {
			t.Errorf("%s: %q, %v", dst, got, err)
		}
	}
	if n := tracked(t); n != "0" {
		t.Errorf("%s connections are tracked", n)
	}
	if err := dialTCP("192.0.2.10:443"); err != nil { // of the builder, which is redirected
		t.Fatal(err)
	}
	if n := tracked(t); n != "1" {
		t.Errorf("%s connections are tracked, want that of the builder", n)
	}
}

// With several uplinks the rules ask a set.
func TestTwoUplinks(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	other := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "other"}, PeerName: "nowhere"}
	if err := netlink.LinkAdd(other); err != nil {
		t.Fatal(err)
	}
	var err error
	if c.fw, err = firewall.Install(config("up0", "other")); err != nil {
		t.Fatal(err)
	}
	if err := dialTCP("10.200.0.1:7777"); err != nil {
		t.Error(err)
	} else {
		c.wantOrig(t, "10.200.0.1:7777")
	}
	if got := c.wire.IP(); len(got) != 0 {
		t.Errorf("%d packets on the uplink", len(got))
	}
	dst := netip.MustParseAddrPort("10.200.0.2:9")
	c.neighbourSends(t, segment(neighbourOf(dst.Addr()), dst, 2))
	c.wantSilence(t)
	if counts, err := c.fw.Counts(); err != nil || counts.Uplink != 1 {
		t.Errorf("counts %+v, %v", counts, err)
	}
	if err := netlink.LinkDel(other); err != nil {
		t.Fatal(err)
	}
	var unsupported *firewall.UnsupportedError
	if _, err := firewall.Install(config("up0", "other")); err == nil || errors.As(err, &unsupported) {
		t.Errorf("an uplink that is not there: %v", err)
	}
}

// Refusals and errors from outside reach the socket that they are for.
func TestErrorsFromOutside(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	c.neighbour.Do(t, func() error {
		for file, value := range map[string]string{
			"/proc/sys/net/ipv4/ip_forward": "1", "/proc/sys/net/ipv6/conf/all/forwarding": "1",
		} {
			if err := os.WriteFile(file, []byte(value), 0); err != nil {
				return err
			}
		}
		for _, net := range []string{"192.0.2.0/24", "2001:db8::/32"} {
			dst, err := netlink.ParseIPNet(net)
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{Dst: dst, Type: unix.RTN_UNREACHABLE}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, x := range []struct {
		dst  string
		want syscall.Errno
	}{
		{"10.200.0.1:9", unix.ECONNREFUSED},
		{"[fd00:200::1]:9", unix.ECONNREFUSED},
		{"192.0.2.10:443", unix.EHOSTUNREACH},
		{"[2001:db8::10]:443", unix.ENETUNREACH},
	} {
		if _, err := marked("tcp", x.dst); !errors.Is(err, x.want) {
			t.Errorf("connecting to %s: %v, want %v", x.dst, err, x.want)
		}
	}
}
