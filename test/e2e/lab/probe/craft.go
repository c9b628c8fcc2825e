package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// What is in this file needs NET_RAW, which a step has not: it is for the
// harness's hook "privileged", and for a builder without a cage.

// datagram is an IPv4 packet of one's own making.
type datagram struct {
	src, dst netip.Addr
	proto    byte
	fragment uint16 // offset in 8 bytes, and 0x2000 for more to come
	options  []byte
	body     []byte
}

func (d datagram) bytes() []byte {
	for len(d.options)%4 != 0 {
		d.options = append(d.options, 0)
	}
	h := []byte{byte(0x45 + len(d.options)/4), 0, 0, 0, 0x43, 0x21, 0, 0, 64, d.proto, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(d.options)+len(d.body)))
	binary.BigEndian.PutUint16(h[6:], d.fragment)
	h = append(append(h, d.src.AsSlice()...), d.dst.AsSlice()...)
	h = append(h, d.options...)
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, d.body...)
}

func sendIPv4(packets ...datagram) error {
	to := netip.AddrPortFrom(packets[0].dst, 0)
	return socket(to, unix.SOCK_RAW, unix.IPPROTO_RAW, func(fd int, sa unix.Sockaddr) error {
		for _, d := range packets {
			if err := unix.Sendto(fd, d.bytes(), 0, sa); err != nil {
				return err
			}
		}
		return nil
	})
}

// ownAddr is the address that packets to this one carry.
func ownAddr(to netip.Addr) netip.Addr {
	c, err := net.Dial("udp", net.JoinHostPort(to.String(), "9"))
	if err != nil {
		return netip.IPv4Unspecified()
	}
	defer c.Close()
	a, _ := netip.ParseAddrPort(c.LocalAddr().String())
	return a.Addr()
}

// segment is a TCP header with these flags, and a payload.
func segment(src, dst netip.AddrPort, flags byte, seq uint32, payload []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, src.Port())
	b = binary.BigEndian.AppendUint16(b, dst.Port())
	b = binary.BigEndian.AppendUint32(b, seq)
	b = append(b, 0, 0, 0, 0, 0x50, flags, 0x10, 0, 0, 0, 0, 0)
	if flags&0x20 != 0 {
		b[19] = 1 // urgent pointer
	}
	b = append(b, payload...)
	pseudo := append(append(src.Addr().AsSlice(), dst.Addr().AsSlice()...), 0, unix.IPPROTO_TCP)
	pseudo = binary.BigEndian.AppendUint16(pseudo, uint16(len(b)))
	binary.BigEndian.PutUint16(b[16:], checksum(append(pseudo, b...)))
	return b
}

// tcpFlags reads S, A, F, R, P, U in any order; "0" is none.
func tcpFlags(text string) (flags byte) {
	for i, c := range "FSRPAU" {
		if strings.ContainsRune(text, c) {
			flags |= 1 << i
		}
	}
	return flags
}

// crafted are the kinds that rawOne does not know itself:
//
//	seg:FLAGS      a TCP segment with flags out of FSRPAU and the payload
//	pieces         a SYN in three fragments
//	overlap        UDP in fragments that overlap
//	first, later   only the first, only a later fragment
//	option:NAME    UDP with lsrr, ssrr, rr or alert
//	quote:KIND/SRC/DST  ICMP (unreach, frag, redirect) about a TCP packet of SRC (with ports) to DST
//	ra, na, redirect6   IPv6 neighbour discovery
//	arp:ADDRESS    an ARP answer to everyone: I am ADDRESS
//	ether:ADDRESS  an Ethernet frame to everyone with a UDP packet to ADDRESS
//	join           multicast membership
//	quic           a datagram like QUIC's first
func (p *probe) crafted(kind, arg string, to netip.AddrPort, b []byte) error {
	src := netip.AddrPortFrom(ownAddr(to.Addr()), 40000)
	base := datagram{src: src.Addr(), dst: to.Addr(), proto: unix.IPPROTO_UDP}
	switch kind {
	case "seg":
		base.proto, base.body = unix.IPPROTO_TCP, segment(src, to, tcpFlags(arg), 1000, b)
		return sendIPv4(base)
	case "pieces", "overlap", "first", "later":
		return pieces(kind, base, src, to, b)
	case "option":
		base.options, base.body = ipOption(arg, to.Addr()), udpHeader(src, to, b)
		return sendIPv4(base)
	case "quote":
		return quote(arg, base)
	case "ra", "na", "redirect6":
		return discovery(kind, to.Addr(), b)
	case "arp":
		claimed, err := netip.ParseAddr(arg)
		if err != nil {
			return err
		}
		return frames(func(l net.Interface) []byte { return arpAnswer(l.HardwareAddr, claimed) })
	case "ether":
		base.body = udpHeader(src, to, b)
		return frames(func(l net.Interface) []byte { return frameTo(l.HardwareAddr, 0x0800, base.bytes()) })
	case "join":
		return join(to.Addr())
	case "quic":
		return udpConnected(to, quicInitial(b))
	}
	return fmt.Errorf("unknown kind")
}

func udpHeader(src, dst netip.AddrPort, b []byte) []byte {
	h := binary.BigEndian.AppendUint16(nil, src.Port())
	h = binary.BigEndian.AppendUint16(h, dst.Port())
	h = binary.BigEndian.AppendUint16(h, uint16(8+len(b)))
	return append(append(h, 0, 0), b...)
}

func pieces(kind string, base datagram, src, to netip.AddrPort, b []byte) error {
	part := func(proto byte, body []byte, offset uint16, more bool) datagram {
		d := base
		d.proto, d.body, d.fragment = proto, body, offset
		if more {
			d.fragment |= 0x2000
		}
		return d
	}
	switch kind {
	case "pieces":
		s := segment(src, to, tcpFlags("S"), 1000, append(b, make([]byte, 8-len(b)%8)...))
		return sendIPv4(part(unix.IPPROTO_TCP, s[:8], 0, true), part(unix.IPPROTO_TCP, s[8:16], 1, true), part(unix.IPPROTO_TCP, s[16:], 2, false))
	case "overlap":
		u := udpHeader(src, to, append(b, make([]byte, 40)...))
		return sendIPv4(part(unix.IPPROTO_UDP, u[:24], 0, true), part(unix.IPPROTO_UDP, u[8:32], 1, true), part(unix.IPPROTO_UDP, u[16:], 2, false))
	case "first":
		return sendIPv4(part(unix.IPPROTO_UDP, udpHeader(src, to, b)[:8], 0, true))
	}
	return sendIPv4(part(unix.IPPROTO_UDP, append(b, make([]byte, 8-len(b)%8)...), 3, true))
}

func ipOption(name string, to netip.Addr) []byte {
	switch name {
	case "lsrr":
		return append([]byte{131, 7, 4}, to.AsSlice()...)
	case "ssrr":
		return append([]byte{137, 7, 4}, to.AsSlice()...)
	case "rr":
		return append([]byte{7, 11, 4}, make([]byte, 8)...)
	}
	return []byte{148, 4, 0, 0} // router alert
}

// quote sends an ICMP error about a packet that somebody else is said to have sent.
func quote(arg string, base datagram) error {
	parts := strings.Split(arg, "/")
	if len(parts) != 3 {
		return fmt.Errorf("want KIND/SRC/DST")
	}
	from, err := netip.ParseAddrPort(parts[1])
	if err != nil {
		return err
	}
	about, err := netip.ParseAddrPort(parts[2])
	if err != nil {
		return err
	}
	inner := datagram{src: from.Addr(), dst: about.Addr(), proto: unix.IPPROTO_TCP, body: segment(from, about, tcpFlags("A"), 1, nil)[:8]}
	head := map[string][]byte{
		"unreach": {3, 3, 0, 0, 0, 0, 0, 0}, "frag": {3, 4, 0, 0, 0, 0, 0, 68}, "redirect": append([]byte{5, 1, 0, 0}, base.src.AsSlice()...),
	}[parts[0]]
	if head == nil {
		return fmt.Errorf("quote: unknown kind %q", parts[0])
	}
	m := slices.Concat(head, inner.bytes())
	binary.BigEndian.PutUint16(m[2:], checksum(m))
	base.proto, base.body = unix.IPPROTO_ICMP, m
	return sendIPv4(base)
}

// discovery sends a message that only routers and neighbours send; the kernel
// computes its checksum.
func discovery(kind string, to netip.Addr, b []byte) error {
	var m []byte
	switch kind {
	case "ra": // router for an hour, with a prefix of one's own
		m = []byte{134, 0, 0, 0, 64, 0, 14, 16, 0, 0, 0, 0, 0, 0, 0, 0}
		m = append(m, 3, 4, 64, 0xc0, 0, 0, 14, 16, 0, 0, 14, 16, 0, 0, 0, 0)
		m = append(m, netip.MustParseAddr("2001:db8:666::").AsSlice()...)
	case "na": // this address is mine, override
		m = append([]byte{136, 0, 0, 0, 0x60, 0, 0, 0}, to.AsSlice()...)
		m = append(m, 2, 1, 2, 0, 0, 0, 0, 0x66)
	default: // send what goes there to me
		m = append([]byte{137, 0, 0, 0, 0, 0, 0, 0}, ownAddr(to).AsSlice()...)
		m = append(m, to.AsSlice()...)
	}
	m = append(m, 254, byte((len(b)+9)/8)) // an unknown option, with the payload
	m = append(m, b...)
	for len(m)%8 != 0 {
		m = append(m, 0)
	}
	dst := netip.AddrPortFrom(to, 0)
	if kind == "na" {
		dst = netip.AddrPortFrom(netip.MustParseAddr("ff02::1"), 0)
	}
	return socket(dst, unix.SOCK_RAW, unix.IPPROTO_ICMPV6, func(fd int, sa unix.Sockaddr) error {
		for _, o := range []int{unix.IPV6_UNICAST_HOPS, unix.IPV6_MULTICAST_HOPS} {
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, o, 255); err != nil {
				return err
			}
		}
		links, err := net.Interfaces()
		if err != nil {
			return err
		}
		for _, l := range links {
			if l.Flags&net.FlagLoopback == 0 {
				_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_IF, l.Index)
			}
		}
		return unix.Sendto(fd, m, 0, sa)
	})
}

func arpAnswer(mac net.HardwareAddr, claimed netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 2}
	b = append(append(b, mac...), claimed.AsSlice()...)
	b = append(append(b, 255, 255, 255, 255, 255, 255), claimed.AsSlice()...)
	return frameTo(mac, 0x0806, b)
}

func frameTo(mac net.HardwareAddr, kind uint16, body []byte) []byte {
	b := append([]byte{255, 255, 255, 255, 255, 255}, mac...)
	return append(binary.BigEndian.AppendUint16(b, kind), body...)
}

// frames sends a frame by every interface that has an address of its own.
func frames(frame func(net.Interface) []byte) error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	for _, l := range links {
		if len(l.HardwareAddr) != 6 {
			continue
		}
		to := &unix.SockaddrLinklayer{Ifindex: l.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
		if err := unix.Sendto(fd, frame(l), 0, to); err != nil {
			return err
		}
	}
	return nil
}

// join becomes a member of a multicast group on every interface.
func join(group netip.Addr) error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	c, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return err
	}
	c.Close()
	for i := range links {
		if links[i].Flags&net.FlagLoopback != 0 {
			continue
		}
		m, err := net.ListenMulticastUDP("udp", &links[i], &net.UDPAddr{IP: group.AsSlice(), Port: 5353})
		if err != nil {
			return err
		}
		m.Close()
	}
	return nil
}

// quicInitial is a datagram that looks like the first of QUIC version 1.
func quicInitial(b []byte) []byte {
	m := append([]byte{0xc3, 0, 0, 0, 1, 8}, "lablabla"...)
	m = append(m, 0, 0, 0x44, 0x9e)
	m = append(m, b...)
	return append(m, make([]byte, 1200-len(m))...)
}
