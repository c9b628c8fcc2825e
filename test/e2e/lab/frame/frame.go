// Package frame reads Ethernet frames as far as an oracle needs them: which
// protocol, to whom, and what is behind the headers.
package frame

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Packet is one frame.
type Packet struct {
	Proto    string // tcp, udp, icmp, icmpv6, igmp, sctp, gre, …, proto-N; arp; ether-XXXX
	Src, Dst netip.Addr
	Port     uint16 // destination, 0 where there is none
	SYN      bool   // TCP: the first packet of a connection
	ICMP     byte   // type
	Payload  []byte
	mac      [6]byte
}

const (
	etherIPv4 = 0x0800
	etherARP  = 0x0806
	etherIPv6 = 0x86dd
)

// Parse reads a frame; ok is false for what is too short to be one.
func Parse(b []byte) (p Packet, ok bool) {
	if len(b) < 14 {
		return p, false
	}
	copy(p.mac[:], b)
	body := b[14:]
	switch kind := binary.BigEndian.Uint16(b[12:]); kind {
	case etherARP:
		p.Proto = "arp"
	case etherIPv4:
		return p, p.ipv4(body)
	case etherIPv6:
		return p, p.ipv6(body)
	default:
		p.Proto = fmt.Sprintf("ether-%04x", kind)
	}
	return p, true
}

func (p *Packet) ipv4(b []byte) bool {
	if len(b) < 20 || int(b[0]&15)*4 > len(b) || b[0]&15 < 5 {
		return false
	}
	if total := int(binary.BigEndian.Uint16(b[2:])); total >= 20 && total < len(b) {
		b = b[:total] // without the padding of short frames
	}
	p.Src, p.Dst = netip.AddrFrom4([4]byte(b[12:16])), netip.AddrFrom4([4]byte(b[16:20]))
	first := binary.BigEndian.Uint16(b[6:])&0x1fff == 0
	p.transport(b[9], b[int(b[0]&15)*4:], first)
	return true
}

func (p *Packet) ipv6(b []byte) bool {
	if len(b) < 40 {
		return false
	}
	p.Src, p.Dst = netip.AddrFrom16([16]byte(b[8:24])).Unmap(), netip.AddrFrom16([16]byte(b[24:40])).Unmap()
	next, rest, first := b[6], b[40:], true
	for (next == 0 || next == 43 || next == 44 || next == 60) && len(rest) >= 8 {
		size := int(rest[1])*8 + 8
		if next == 44 {
			size = 8
			first = first && binary.BigEndian.Uint16(rest[2:])&0xfff8 == 0
		}
		if size > len(rest) {
			break
		}
		next, rest = rest[0], rest[size:]
	}
	p.transport(next, rest, first)
	return true
}

// transport reads the header behind IP; a fragment that is not the first has none.
func (p *Packet) transport(proto byte, b []byte, first bool) {
	names := map[byte]string{1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 33: "dccp", 47: "gre", 50: "esp", 58: "icmpv6", 132: "sctp", 136: "udplite"}
	p.Proto, p.Payload = names[proto], b
	if p.Proto == "" {
		p.Proto = fmt.Sprintf("proto-%d", proto)
	}
	if !first || len(b) < 4 {
		return
	}
	switch proto {
	case 1, 58:
		p.ICMP = b[0]
	case 17, 33, 132, 136:
		p.Port = binary.BigEndian.Uint16(b[2:])
		p.Payload = b[min(8, len(b)):]
	case 6:
		p.Port = binary.BigEndian.Uint16(b[2:])
		if len(b) >= 20 {
			p.SYN = b[13]&0x12 == 0x02
			p.Payload = b[min(int(b[12]>>4)*4, len(b)):]
		}
	}
}

// Noise is what a kernel says by itself on a link that comes up: ARP, IPv6
// neighbour and router discovery, multicast membership.
func (p *Packet) Noise() bool {
	switch p.Proto {
	case "arp", "igmp":
		return true
	case "icmpv6":
		return p.ICMP >= 130 && p.ICMP <= 137 || p.ICMP == 143
	}
	return false
}
