package firewall_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/lab"
	"github.com/buildcage/buildcage/internal/contract"
)

// marked dials as the cage itself does.
func marked(dst string) (net.Conn, error) {
	d := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, contract.ProxyMark) })
	}}
	return d.Dial("tcp", dst)
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
		conn, err := marked(dst)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
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
		if _, err := marked(x.dst); !errors.Is(err, x.want) {
			t.Errorf("connecting to %s: %v, want %v", x.dst, err, x.want)
		}
	}
}

// What nobody asked for opens nothing, is not answered, not even by a reset,
// and is not taken for an attempt of the builder.
func TestUnasked(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	trap, err := net.Listen("tcp", ":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	reached := make(chan string, 64)
	go func() {
		for {
			conn, err := trap.Accept()
			if err != nil {
				return
			}
			reached <- conn.RemoteAddr().String()
			conn.Close()
		}
	}()
	c.neighbour.Do(t, func() error {
		for _, dst := range []string{"198.18.0.0/15", "198.19.0.0/16"} {
			ipnet, err := netlink.ParseIPNet(dst)
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{Dst: ipnet, Gw: net.ParseIP("10.200.0.2")}); err != nil {
				return err
			}
		}
		return nil
	})
	for _, to := range []string{"10.200.0.2:8080", "10.200.0.2:9", "198.18.0.1:15001", "198.18.0.1:53", "198.19.0.1:8080"} {
		dst := netip.MustParseAddrPort(to)
		for flags := range byte(64) {
			packet := ipv4(netip.MustParseAddr("10.200.0.1"), dst.Addr().String(), unix.IPPROTO_TCP, segment(dst, flags))
			c.neighbour.Do(t, func() error { return lab.Raw(dst.Addr().AsSlice(), packet) })
		}
	}
	listen(t, c.neighbour, "10.200.0.1:7777")
	conn, err := marked("10.200.0.1:7777") // behind all that on the wire
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for _, p := range c.wire.IP() {
		if p[0]>>4 != 4 || p[9] != unix.IPPROTO_TCP || binary.BigEndian.Uint16(p[22:]) != 7777 {
			t.Errorf("on the uplink: %x", p)
		}
	}
	want(t, "logged", c.settled(t))
	counts, err := c.fw.Counts()
	if want := uint64(2*64 + 3*16); err != nil || counts.Uplink != want { // all to listeners, else what acknowledges nothing
		t.Errorf("counts %+v, %v, want %d from the uplink", counts, err, want)
	}
	trap.Close()
	select {
	case who := <-reached:
		t.Errorf("%s reached a listener", who)
	case <-time.After(0):
	}
}

// segment is a TCP segment without options or data, with a right checksum.
func segment(dst netip.AddrPort, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, 4444)
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint32(b[4:], 1000)
	binary.BigEndian.PutUint32(b[8:], 2000)
	b[12], b[13] = 5<<4, flags
	binary.BigEndian.PutUint16(b[14:], 1024)
	pseudo := append(netip.MustParseAddr("10.200.0.1").AsSlice(), dst.Addr().AsSlice()...)
	sum := uint32(unix.IPPROTO_TCP + len(b))
	for _, part := range [][]byte{pseudo, b} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(b[16:], ^uint16(sum))
	return b
}
