package firewall

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// indexes finds the uplinks.
func indexes(names []string) (list []uint32, err error) {
	for _, name := range names {
		link, err := net.InterfaceByName(name)
		if err != nil {
			return nil, fmt.Errorf("finding uplink %s: %w", name, err)
		}
		list = append(list, uint32(link.Index))
	}
	return list, nil
}

func (b *builder) addUplinks() error {
	if len(b.indexes) < 2 {
		return nil
	}
	var list []nftables.SetElement
	for _, index := range b.indexes {
		list = append(list, nftables.SetElement{Key: native(index)})
	}
	b.uplinks = &nftables.Set{Table: b.table, Name: "uplinks", KeyType: nftables.TypeIFIndex, KeyByteOrder: binaryutil.NativeEndian}
	if err := b.conn.AddSet(b.uplinks, list); err != nil {
		return fmt.Errorf("building the set of uplinks: %w", err)
	}
	return nil
}

// untracked keeps the cage's own connections to the outside out of connection
// tracking: its sockets know them, and nothing is redirected there. It would take
// a twentieth of what a connection costs. What input then asks of a packet is that
// it can't open anything.
func (b *builder) untracked() {
	rule := b.chain("untracked", nftables.ChainTypeFilter, nftables.ChainHookOutput, priorityRaw, nftables.ChainPolicyAccept)
	rule(mark(b.Mark), b.uplink(expr.MetaKeyOIF), proto(unix.IPPROTO_TCP), notrack())
}

// output lets only marked sockets use the uplinks. The kernel's own error
// messages to steps belong to no connection that it remembers. What is not
// redirected and goes to a fake address would vanish on lo. A redirected
// packet still names the interface that it would have left by.
func (b *builder) output() {
	rule := b.chain("output", nftables.ChainTypeFilter, nftables.ChainHookOutput, 0, nftables.ChainPolicyDrop)
	for _, net := range []netip.Prefix{b.StepNet4, b.StepNet6} { // most packets by far: to origins, to steps
		rule(mark(b.Mark), daddr(net, expr.CmpOpNeq), b.uplink(expr.MetaKeyOIF), accept())
		rule(daddr(net, expr.CmpOpEq), going(), b.noUplink(expr.MetaKeyOIF), accept())
	}
	b.offers(func(to netip.Prefix, p byte, port uint16) {
		rule(daddr(to, expr.CmpOpEq), dport(p, port), accept())
	})
	for _, to := range []netip.Addr{b.Listen4, b.Listen6} {
		rule(oif(loopback), daddr(single(to), expr.CmpOpEq), accept())
	}
	for _, fake := range []netip.Prefix{b.FakeNet4, b.FakeNet6} {
		rule(oif(loopback), daddr(fake, expr.CmpOpEq), b.count("builder"), b.log(LogBuilder), reject())
	}
	rule(oif(loopback), accept())
	b.goneSteps(rule)
	rule(b.uplink(expr.MetaKeyOIF), mark(b.Mark), accept())
	if b.EngineDNS {
		rule(b.uplink(expr.MetaKeyOIF), dport(unix.IPPROTO_UDP, 53), accept())
	}
	// What comes when nobody waits for it any more, or can't be delivered, is not
	// refused in words: nothing but questions and what has a socket leaves.
	up := b.uplink(expr.MetaKeyOIF)
	rule(up, resetting(), b.count("noise"), drop())
	for _, err := range icmpErrors() {
		rule(up, err.match, b.count("noise"), drop())
	}
	rule(ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept())
	neighbours(rule)
	toSteps := b.noUplink(expr.MetaKeyOIF)
	rule(toSteps, icmp4(unreachable4), accept())
	rule(toSteps, icmp6(unreachable6), accept())
	for _, typ := range []byte{mldQuery, mldReport, mldDone, routerSolicit, mldReport2} {
		rule(icmp6(typ), b.count("noise"), drop())
	}
	rule(proto(unix.IPPROTO_IGMP), b.count("noise"), drop())
	rule(b.count("builder"), b.log(LogBuilder), reject())
}

// goneSteps keeps in what is still to be said to a step whose link has gone:
// the default route would take it out. TCP that still has such a destination
// here is an answer: the builder's own is redirected.
func (b *builder) goneSteps(rule func(...match)) {
	up := b.uplink(expr.MetaKeyOIF)
	for _, net := range []netip.Prefix{b.StepNet4, b.StepNet6} {
		rule(up, daddr(net, expr.CmpOpEq), proto(unix.IPPROTO_TCP), b.count("noise"), drop())
		rule(up, daddr(net, expr.CmpOpEq), ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), b.count("noise"), drop())
		rule(up, daddr(net, expr.CmpOpEq), b.count("builder"), b.log(LogBuilder), reject())
	}
}
