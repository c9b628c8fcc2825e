package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// raw sends what is not TCP. ADDRESS may have a port.
//
//	udp        connected, unconnected and two messages in one call
//	icmp       an echo request, by ping socket and by raw socket
//	sctp, dccp a socket that connects; udplite and mptcp: and sends
//	proto:N    a raw IP packet of protocol N
//	spoof:SRC  a UDP packet from another address
//	fragment   a UDP packet in two pieces
//	broadcast  a UDP packet to a broadcast or multicast address
//	frame      an Ethernet frame to everyone
//
// and those of crafted.
func (p *probe) raw(args []string) error {
	f := p.flags("raw")
	send := f.String("send", "lab", "payload, Go's escapes")
	rest, err := parse(f, args, 2)
	if err != nil {
		return err
	}
	text, err := unescape(*send)
	if err != nil {
		return err
	}
	for _, target := range rest[1:] {
		list := []string{target}
		if strings.ContainsAny(target, ",-") {
			if list, err = targets(target); err != nil {
				return err
			}
		}
		for _, t := range list {
			to, err := parseTarget(t)
			if err != nil {
				return err
			}
			p.say("%s %s: %s", rest[0], t, p.rawOne(rest[0], to, []byte(text)))
		}
	}
	return nil
}

func parseTarget(s string) (netip.AddrPort, error) {
	if to, err := netip.ParseAddrPort(s); err == nil {
		return to, nil
	}
	if a, err := net.ResolveUDPAddr("udp4", s); err == nil && strings.Contains(s, ".test:") {
		return a.AddrPort(), nil
	}
	a, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.AddrPort{}, &fatalError{err}
	}
	return netip.AddrPortFrom(a, 0), nil
}

func (p *probe) rawOne(kind string, to netip.AddrPort, b []byte) string {
	name, arg, _ := strings.Cut(kind, ":")
	switch name {
	case "udp":
		return verdict(udpConnected(to, b)) + ", " + verdict(udpUnconnected(to, b)) + ", " + verdict(udpMany(to, b))
	case "icmp":
		return verdict(ping(to, b, unix.SOCK_DGRAM)) + ", " + verdict(ping(to, b, unix.SOCK_RAW))
	case "sctp":
		return verdict(connect(to, unix.SOCK_STREAM, unix.IPPROTO_SCTP))
	case "dccp":
		return verdict(connect(to, 6, 33))
	case "udplite":
		return verdict(connectSend(to, unix.SOCK_DGRAM, 136, b))
	case "mptcp":
		return verdict(connectSend(to, unix.SOCK_STREAM, 262, b))
	case "proto":
		n, err := strconv.Atoi(arg)
		if err != nil {
			return err.Error()
		}
		return verdict(rawIP(to, n, b))
	case "spoof":
		return verdict(spoof(arg, to, b, false))
	case "fragment":
		return verdict(spoof("", to, b, true))
	case "broadcast":
		return verdict(broadcast(to, b))
	case "frame":
		return verdict(ether(b))
	}
	return verdict(p.crafted(name, arg, to, b))
}

func verdict(err error) string {
	if err != nil {
		return err.Error()
	}
	return "sent"
}

func sockaddr(to netip.AddrPort) (family int, sa unix.Sockaddr) {
	if to.Addr().Unmap().Is4() {
		return unix.AF_INET, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().Unmap().As4()}
	}
	return unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
}

// socket opens one and calls f with it.
func socket(to netip.AddrPort, typ, proto int, f func(fd int, sa unix.Sockaddr) error) error {
	family, sa := sockaddr(to)
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	tv := unix.Timeval{Usec: 200_000}
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &tv)
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv)
	return f(fd, sa)
}

// udpConnected also waits for the refusal, which a connected socket hears of.
func udpConnected(to netip.AddrPort, b []byte) error {
	return socket(to, unix.SOCK_DGRAM, 0, func(fd int, sa unix.Sockaddr) error {
		if err := unix.Connect(fd, sa); err != nil {
			return err
		}
		if _, err := unix.Write(fd, b); err != nil {
			return err
		}
		n, err := unix.Read(fd, make([]byte, 2048))
		if err != nil {
			return fmt.Errorf("answer: %w", err)
		}
		return fmt.Errorf("answer of %d bytes", n)
	})
}

func udpUnconnected(to netip.AddrPort, b []byte) error {
	return socket(to, unix.SOCK_DGRAM, 0, func(fd int, sa unix.Sockaddr) error { return unix.Sendto(fd, b, 0, sa) })
}

func udpMany(to netip.AddrPort, b []byte) error {
	return socket(to, unix.SOCK_DGRAM, 0, func(fd int, sa unix.Sockaddr) error {
		for range 2 {
			if _, err := unix.SendmsgN(fd, b, nil, sa, 0); err != nil {
				return err
			}
		}
		return nil
	})
}

func connect(to netip.AddrPort, typ, proto int) error {
	return socket(to, typ, proto, func(fd int, sa unix.Sockaddr) error { return unix.Connect(fd, sa) })
}

func connectSend(to netip.AddrPort, typ, proto int, b []byte) error {
	return socket(to, typ, proto, func(fd int, sa unix.Sockaddr) error {
		if err := unix.Connect(fd, sa); err != nil {
			return err
		}
		_, err := unix.Write(fd, b)
		return err
	})
}

func ping(to netip.AddrPort, b []byte, typ int) error {
	proto, echo := unix.IPPROTO_ICMP, byte(8)
	if to.Addr().Is6() {
		proto, echo = unix.IPPROTO_ICMPV6, 128
	}
	m := append([]byte{echo, 0, 0, 0, 0, 1, 0, 1}, b...)
	binary.BigEndian.PutUint16(m[2:], checksum(m))
	return socket(netip.AddrPortFrom(to.Addr(), 0), typ, proto, func(fd int, sa unix.Sockaddr) error { return unix.Sendto(fd, m, 0, sa) })
}

func rawIP(to netip.AddrPort, proto int, b []byte) error {
	return socket(netip.AddrPortFrom(to.Addr(), 0), unix.SOCK_RAW, proto, func(fd int, sa unix.Sockaddr) error { return unix.Sendto(fd, b, 0, sa) })
}

func broadcast(to netip.AddrPort, b []byte) error {
	return socket(to, unix.SOCK_DGRAM, 0, func(fd int, sa unix.Sockaddr) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return err
		}
		return unix.Sendto(fd, b, 0, sa)
	})
}

func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// spoof sends an IPv4 UDP packet with a header of its own making. An empty
// source is filled in by the kernel.
func spoof(source string, to netip.AddrPort, b []byte, pieces bool) error {
	if !to.Addr().Is4() {
		return fmt.Errorf("only for IPv4")
	}
	src := netip.IPv4Unspecified()
	if source != "" {
		var err error
		if src, err = netip.ParseAddr(source); err != nil {
			return err
		}
	}
	udp := binary.BigEndian.AppendUint16(nil, 40000)
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = binary.BigEndian.AppendUint16(udp, uint16(8+len(b)))
	udp = append(append(udp, 0, 0), b...)
	for len(udp)%8 != 0 {
		udp = append(udp, 0)
	}
	return socket(netip.AddrPortFrom(to.Addr(), 0), unix.SOCK_RAW, unix.IPPROTO_RAW, func(fd int, sa unix.Sockaddr) error {
		if !pieces {
			return unix.Sendto(fd, ipv4(src, to.Addr(), udp, 0), 0, sa)
		}
		if err := unix.Sendto(fd, ipv4(src, to.Addr(), udp[:8], 0x2000), 0, sa); err != nil {
			return err
		}
		return unix.Sendto(fd, ipv4(src, to.Addr(), udp[8:], 1), 0, sa)
	})
}

func ipv4(src, dst netip.Addr, body []byte, fragment uint16) []byte {
	h := []byte{0x45, 0, 0, 0, 0x12, 0x34, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	binary.BigEndian.PutUint16(h[2:], uint16(20+len(body)))
	binary.BigEndian.PutUint16(h[6:], fragment)
	h = append(append(h, src.AsSlice()...), dst.AsSlice()...)
	binary.BigEndian.PutUint16(h[10:], checksum(h))
	return append(h, body...)
}

func ether(b []byte) error {
	links, err := net.Interfaces()
	if err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	frame := append([]byte{255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, b...)
	for _, l := range links {
		if l.Flags&net.FlagLoopback != 0 {
			continue
		}
		to := &unix.SockaddrLinklayer{Ifindex: l.Index, Halen: 6, Addr: [8]byte{255, 255, 255, 255, 255, 255}}
		if err := unix.Sendto(fd, frame, 0, to); err != nil {
			return err
		}
	}
	return nil
}
