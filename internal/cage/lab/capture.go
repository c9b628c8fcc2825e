package lab

import (
	"encoding/binary"
	"net"
	"sync"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Capture sees the frames that arrive at one interface.
type Capture struct {
	fd     int
	mu     sync.Mutex
	frames [][]byte
}

// NewCapture starts capturing on the interface of the namespace.
func NewCapture(t *testing.T, s *Space, link string) *Capture {
	t.Helper()
	c := &Capture{}
	s.Do(t, func() error {
		l, err := netlink.LinkByName(link)
		if err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
		if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK, int(all)); err != nil {
			return err
		}
		return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: l.Attrs().Index})
	})
	t.Cleanup(func() { unix.Close(c.fd) })
	return c
}

// IP returns the IP packets that arrived so far, without Ethernet headers. ARP,
// its IPv6 equivalents and what the neighbour itself sent are left out: the
// kernel of the cage says hello on the link before anything can be installed.
func (c *Capture) IP() [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	buf := make([]byte, 65536)
	for {
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		if err != nil {
			break
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
			continue
		}
		c.frames = append(c.frames, append([]byte(nil), buf[:n]...))
	}
	var out [][]byte
	for _, f := range c.frames {
		if len(f) < 15 {
			continue
		}
		if typ := binary.BigEndian.Uint16(f[12:14]); typ != unix.ETH_P_IP && typ != unix.ETH_P_IPV6 {
			continue
		}
		if p := f[14:]; !discovery(p) {
			out = append(out, p)
		}
	}
	return out
}

// discovery reports whether p is an IPv6 neighbour solicitation or
// advertisement, a router solicitation or a multicast listener report.
func discovery(p []byte) bool {
	if len(p) < 49 || p[0]>>4 != 6 {
		return false
	}
	if p[6] == unix.IPPROTO_HOPOPTS {
		return p[40] == unix.IPPROTO_ICMPV6 && p[48] == 143
	}
	return p[6] == unix.IPPROTO_ICMPV6 && (p[40] == 133 || p[40] == 135 || p[40] == 136)
}

// Raw sends one IP packet from the namespace, with any source.
func Raw(dst net.IP, packet []byte) error {
	family, level, opt := unix.AF_INET, unix.IPPROTO_IP, unix.IP_HDRINCL
	var to unix.Sockaddr
	if v4 := dst.To4(); v4 != nil {
		to = &unix.SockaddrInet4{Addr: [4]byte(v4)}
	} else {
		family, level, opt = unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_HDRINCL
		to = &unix.SockaddrInet6{Addr: [16]byte(dst)}
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptInt(fd, level, opt, 1); err != nil {
		return err
	}
	return unix.Sendto(fd, packet, 0, to)
}
