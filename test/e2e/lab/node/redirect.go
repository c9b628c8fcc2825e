package main

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// catchPort is where everything ends, whatever it was sent to.
const catchPort = 1

// catchEverything redirects TCP and UDP to any address and port to catchPort.
func catchEverything() error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("opening nftables: %w", err)
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "lab"})
	chain := conn.AddChain(&nftables.Chain{
		Name: "catch", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	for _, proto := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
			&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(catchPort)},
			&expr.Redir{RegisterProtoMin: 1},
		}})
	}
	if err := conn.Flush(); err != nil {
		return fmt.Errorf("catching everything: %w", err)
	}
	return nil
}

// original is where a redirected connection was meant to go.
func original(conn *net.TCPConn) netip.AddrPort {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}
	}
	remote, _ := netip.ParseAddrPort(conn.RemoteAddr().String())
	var orig netip.AddrPort
	_ = raw.Control(func(fd uintptr) {
		if remote.Addr().Unmap().Is4() {
			// The option fills a sockaddr_in, which fits an ipv6_mreq.
			if v, err := unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST); err == nil {
				b := v.Multiaddr
				orig = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
			}
			return
		}
		// A sockaddr_in6 is the first member of an ip6_mtuinfo.
		if v, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, unix.SO_ORIGINAL_DST); err == nil {
			p := v.Addr.Port
			orig = netip.AddrPortFrom(netip.AddrFrom16(v.Addr.Addr), p<<8|p>>8)
		}
	})
	return orig
}
