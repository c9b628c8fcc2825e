package firewall_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/lab"
)

const (
	neighbour4, neighbour6 = "10.200.0.1", "fd00:200::1"
	uplink4, uplink6       = "10.200.0.2", "fd00:200::2"
)

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
	reached := make(chan string, 1)
	go func() {
		if conn, err := trap.Accept(); err == nil {
			reached <- conn.RemoteAddr().String()
			conn.Close()
		}
	}()
	c.leadHere(t)
	dropped := uint64(0)
	for _, to := range []string{
		"10.200.0.2:8080", "10.200.0.2:9", "198.18.0.1:15001", "198.18.0.1:53", "198.19.0.1:8080",
		"[fd00:200::2]:8080", "[fd00:200::2]:9", "[fd62:7569:6c64:18::1]:15001", "[fd62:7569:6c64:18::1]:53",
	} {
		dst := netip.MustParseAddrPort(to)
		for flags := range byte(64) {
			if listener := strings.Contains(to, "18:") || strings.Contains(to, "18.0.1"); listener || flags&(4|16) == 0 {
				dropped++
			}
			c.neighbourSends(t, segment(neighbourOf(dst.Addr()), dst, flags))
		}
	}
	// What is answered to these addresses would stay in the cage, as if the builder had sent it.
	for _, from := range []string{
		"198.18.0.99:443", "198.18.0.1:15001", c.step.Addr4.String() + ":443",
		"[fd62:7569:6c64:18::99]:443", "[fd62:7569:6c64:18::1]:15001", "[" + c.step.Addr6.String() + "]:443",
	} {
		src := netip.MustParseAddrPort(from)
		dst := netip.AddrPortFrom(netip.MustParseAddr(uplink4), 5555)
		if src.Addr().Is6() {
			dst = netip.AddrPortFrom(netip.MustParseAddr(uplink6), 5555)
		}
		c.neighbourSends(t, segment(src, dst, 16))
		dropped++
	}
	c.wantSilence(t)
	if counts, err := c.fw.Counts(); err != nil || counts.Uplink != dropped {
		t.Errorf("counts %+v, %v, want %d from the uplink", counts, err, dropped)
	}
	trap.Close()
	select {
	case who := <-reached:
		t.Errorf("%s reached a listener", who)
	default:
	}
}

// Packets that can't be delivered or understood make the kernel say so. That
// does not leave, and is no attempt of the builder either.
func TestUndeliverable(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	c.leadHere(t)
	near6, far6 := netip.AddrPortFrom(netip.MustParseAddr(uplink6), 5555), netip.MustParseAddrPort("[2001:db8::5]:443")
	near4, far4 := netip.AddrPortFrom(netip.MustParseAddr(uplink4), 5555), netip.MustParseAddrPort("192.0.2.5:443")

	last4 := segment(neighbourOf(far4.Addr()), far4, 2)
	last4[8] = 1
	last6 := segment(neighbourOf(far6.Addr()), far6, 2)
	last6[7] = 1
	udp4 := ipv4(netip.MustParseAddr(neighbour4), far4.Addr().String(), unix.IPPROTO_UDP, []byte{0x11, 0x11, 0x11, 0x12, 0, 8, 0, 0})
	udp4[8] = 1
	for name, p := range map[string][]byte{
		"hop limit":                  last6,
		"time to live":               last4,
		"time to live of UDP":        udp4,
		"unknown destination option": extended(segment(neighbourOf(near6.Addr()), near6, 16), unix.IPPROTO_DSTOPTS, []byte{0, 0, 0x80, 4, 0, 0, 0, 0}),
		"unknown routing header":     extended(segment(neighbourOf(near6.Addr()), near6, 16), unix.IPPROTO_ROUTING, []byte{0, 0, 99, 1, 0, 0, 0, 0}),
		"malformed option":           optioned(segment(neighbourOf(near4.Addr()), near4, 16), []byte{7, 3, 1, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			c.neighbourSends(t, p)
			c.wantSilence(t)
		})
	}
}

// Errors about UDP that nobody has sent do not change the way to a step.
func TestForgedPathMTU(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	quote := ipv4(netip.MustParseAddr("198.18.0.1"), c.step.Addr4.String(), unix.IPPROTO_UDP, []byte{0, 53, 0x30, 0x39, 0, 8, 0, 0})
	tooBig := append([]byte{3, 4, 0, 0, 0, 0, 2, 40}, quote...)
	binary.BigEndian.PutUint16(tooBig[2:], checksum(tooBig))
	c.neighbourSends(t, ipv4(netip.MustParseAddr(neighbour4), uplink4, unix.IPPROTO_ICMP, tooBig))
	c.wantSilence(t)
	out, err := exec.Command("ip", "route", "get", c.step.Addr4.String()).CombinedOutput()
	if err != nil || strings.Contains(string(out), "mtu") {
		t.Errorf("%s, %v", out, err)
	}
}

// leadHere makes the neighbour send to the cage what is not for itself.
func (c *cage) leadHere(t *testing.T) {
	t.Helper()
	c.neighbour.Do(t, func() error {
		for dst, via := range map[string]string{
			"198.18.0.0/15": uplink4, "192.0.2.0/24": uplink4, "fd62:7569:6c64::/48": uplink6, "2001:db8::/32": uplink6,
		} {
			ipnet, err := netlink.ParseIPNet(dst)
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{Dst: ipnet, Gw: net.ParseIP(via)}); err != nil {
				return err
			}
		}
		return nil
	})
}

func (c *cage) neighbourSends(t *testing.T, packet []byte) {
	t.Helper()
	to := net.IP(packet[16:20])
	if packet[0]>>4 == 6 {
		to = packet[24:40]
	}
	c.neighbour.Do(t, func() error { return lab.Raw(to, packet) })
}

// wantSilence wants nothing on the uplink and nothing logged.
func (c *cage) wantSilence(t *testing.T) {
	t.Helper()
	listen(t, c.neighbour, "10.200.0.1:7778")
	conn, err := marked("tcp", "10.200.0.1:7778") // behind all that on the wire
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	for _, p := range c.wire.IP() {
		if p[0]>>4 != 4 || p[9] != unix.IPPROTO_TCP || binary.BigEndian.Uint16(p[22:]) != 7778 {
			t.Errorf("on the uplink: %x", p)
		}
	}
	want(t, "logged", c.settled(t))
}

// neighbourOf is the neighbour's end of a connection to a.
func neighbourOf(a netip.Addr) netip.AddrPort {
	if a.Is4() {
		return netip.AddrPortFrom(netip.MustParseAddr(neighbour4), 4444)
	}
	return netip.AddrPortFrom(netip.MustParseAddr(neighbour6), 4444)
}

// segment is a packet of TCP without options or data, with a right checksum.
func segment(src, dst netip.AddrPort, flags byte) []byte {
	b := make([]byte, 20)
	binary.BigEndian.PutUint16(b, src.Port())
	binary.BigEndian.PutUint16(b[2:], dst.Port())
	binary.BigEndian.PutUint32(b[4:], 1000)
	binary.BigEndian.PutUint32(b[8:], 2000)
	b[12], b[13] = 5<<4, flags
	binary.BigEndian.PutUint16(b[14:], 1024)
	pseudo := append(src.Addr().AsSlice(), dst.Addr().AsSlice()...)
	binary.BigEndian.PutUint16(b[16:], checksum(append(append(pseudo, 0, unix.IPPROTO_TCP, 0, byte(len(b))), b...)))
	if dst.Addr().Is4() {
		return ipv4(src.Addr(), dst.Addr().String(), unix.IPPROTO_TCP, b)
	}
	p := make([]byte, 40)
	p[0], p[6], p[7] = 0x60, unix.IPPROTO_TCP, 64
	binary.BigEndian.PutUint16(p[4:], uint16(len(b)))
	copy(p[8:], src.Addr().AsSlice())
	copy(p[24:], dst.Addr().AsSlice())
	return append(p, b...)
}

// extended puts an extension header into a packet of IPv6.
func extended(p []byte, kind byte, header []byte) []byte {
	header[0], p[6] = p[6], kind
	binary.BigEndian.PutUint16(p[4:], binary.BigEndian.Uint16(p[4:])+uint16(len(header)))
	return append(append(p[:40:40], header...), p[40:]...)
}

// optioned puts options into a packet of IPv4.
func optioned(p, options []byte) []byte {
	p[0] += byte(len(options) / 4)
	binary.BigEndian.PutUint16(p[2:], binary.BigEndian.Uint16(p[2:])+uint16(len(options)))
	return append(append(p[:20:20], options...), p[20:]...)
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}
