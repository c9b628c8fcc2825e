package firewall

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"golang.org/x/sys/unix"
)

// Packet is what was logged about one packet.
type Packet struct {
	Prefix   Prefix
	In       int // index of the interface it came in by, 0: sent by the cage
	Protocol uint8
	Src, Dst netip.AddrPort // port 0 where the protocol has none, or in a later fragment
	Payload  []byte         // behind the UDP header; empty for anything else
}

// Decode reads the headers of an IP packet, which may be cut off. It reports
// whether there were addresses; everything else is best effort.
func Decode(b []byte) (Packet, bool) {
	if len(b) == 0 {
		return Packet{}, false
	}
	switch b[0] >> 4 {
	case 4:
		return decode4(b)
	case 6:
		return decode6(b)
	}
	return Packet{}, false
}

func decode4(b []byte) (Packet, bool) {
	if len(b) < 20 {
		return Packet{}, false
	}
	p := Packet{Protocol: b[9]}
	src, dst := netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	p.Src, p.Dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	head := int(b[0]&0x0f) * 4
	if later := binary.BigEndian.Uint16(b[6:8])&0x1fff != 0; !later && head >= 20 && len(b) > head {
		p.transport(b[head:])
	}
	return p, true
}

// maxExtensions bounds the walk over IPv6 extension headers.
const maxExtensions = 8

func decode6(b []byte) (Packet, bool) {
	if len(b) < 40 {
		return Packet{}, false
	}
	p := Packet{Protocol: b[6]}
	src, dst := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	p.Src, p.Dst = netip.AddrPortFrom(src, 0), netip.AddrPortFrom(dst, 0)
	rest := b[40:]
	for range maxExtensions {
		size, known := 0, true
		switch {
		case len(rest) < 8:
			known = false
		case p.Protocol == unix.IPPROTO_HOPOPTS, p.Protocol == unix.IPPROTO_ROUTING, p.Protocol == unix.IPPROTO_DSTOPTS:
			size = 8 + int(rest[1])*8
		case p.Protocol == unix.IPPROTO_FRAGMENT:
			size = 8
			if binary.BigEndian.Uint16(rest[2:4])&0xfff8 != 0 {
				p.Protocol = rest[0]
				return p, true
			}
		default:
			known = false
		}
		if !known || size > len(rest) {
			break
		}
		p.Protocol, rest = rest[0], rest[size:]
	}
	p.transport(rest)
	return p, true
}

func (p *Packet) transport(b []byte) {
	switch p.Protocol {
	case unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_DCCP, unix.IPPROTO_UDPLITE:
	default:
		return
	}
	if len(b) < 4 {
		return
	}
	p.Src = netip.AddrPortFrom(p.Src.Addr(), binary.BigEndian.Uint16(b[0:2]))
	p.Dst = netip.AddrPortFrom(p.Dst.Addr(), binary.BigEndian.Uint16(b[2:4]))
	if p.Protocol == unix.IPPROTO_UDP && len(b) > 8 {
		p.Payload = b[8:]
	}
}

// ProtocolName is the name of an IP protocol in the record: "udp", "icmp", …, "proto-N".
func ProtocolName(n uint8) string {
	switch n {
	case unix.IPPROTO_ICMP:
		return "icmp"
	case unix.IPPROTO_IGMP:
		return "igmp"
	case unix.IPPROTO_IPIP:
		return "ipip"
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_DCCP:
		return "dccp"
	case unix.IPPROTO_IPV6:
		return "ipv6"
	case unix.IPPROTO_GRE:
		return "gre"
	case unix.IPPROTO_ESP:
		return "esp"
	case unix.IPPROTO_AH:
		return "ah"
	case unix.IPPROTO_ICMPV6:
		return "icmpv6"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_UDPLITE:
		return "udplite"
	}
	return "proto-" + strconv.Itoa(int(n))
}
