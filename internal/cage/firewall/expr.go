package firewall

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// match is one condition or statement of a rule as nftables expressions.
type match []expr.Any

const reg = 1 // the register that conditions use

func equal(data []byte) *expr.Cmp {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: reg, Data: data}
}

func metaIs(key expr.MetaKey, data []byte) match {
	return match{&expr.Meta{Key: key, Register: reg}, equal(data)}
}

// loopback is the index of lo in every network namespace.
const loopback = 1

func iif(index uint32) match { return metaIs(expr.MetaKeyIIF, native(index)) }
func oif(index uint32) match { return metaIs(expr.MetaKeyOIF, native(index)) }

func native(v uint32) []byte { return binaryutil.NativeEndian.PutUint32(v) }

// uplink is true for a packet whose interface, in or out, is an uplink, and
// noUplink for all others. Interfaces are compared by index, and without a set
// where there is only one: names took a fiftieth of what a connection costs.
func (b *builder) uplink(key expr.MetaKey) match   { return b.uplinkIs(key, false) }
func (b *builder) noUplink(key expr.MetaKey) match { return b.uplinkIs(key, true) }

func (b *builder) uplinkIs(key expr.MetaKey, not bool) match {
	load := &expr.Meta{Key: key, Register: reg}
	if b.uplinks != nil {
		return match{load, &expr.Lookup{SourceRegister: reg, SetName: b.uplinks.Name, SetID: b.uplinks.ID, Invert: not}}
	}
	op, only := expr.CmpOpEq, uint32(0) // no interface has this one
	if not {
		op = expr.CmpOpNeq
	}
	if len(b.indexes) == 1 {
		only = b.indexes[0]
	}
	return match{load, &expr.Cmp{Op: op, Register: reg, Data: native(only)}}
}

// tooFast is true for a packet beyond the rate that each link has.
func (b *builder) tooFast() match {
	return match{
		&expr.Meta{Key: expr.MetaKeyIIF, Register: reg},
		&expr.Dynset{
			SrcRegKey: reg, SetName: b.askers.Name, SetID: b.askers.ID, Operation: unix.NFT_DYNSET_OP_UPDATE,
			Exprs: []expr.Any{&expr.Limit{Type: expr.LimitTypePkts, Rate: questionRate, Burst: questionBurst, Unit: expr.LimitTimeSecond, Over: true}},
		},
	}
}

func proto(p byte) match               { return metaIs(expr.MetaKeyL4PROTO, []byte{p}) }
func family(f byte) match              { return metaIs(expr.MetaKeyNFPROTO, []byte{f}) }
func mark(m uint32) match              { return metaIs(expr.MetaKeyMARK, native(m)) }
func verdict(k expr.VerdictKind) match { return match{&expr.Verdict{Kind: k}} }

func accept() match { return verdict(expr.VerdictAccept) }
func drop() match   { return verdict(expr.VerdictDrop) }

func reject() match {
	return match{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}

// dport compares the destination port of p.
func dport(p byte, port uint16) match {
	return append(proto(p),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		equal(binaryutil.BigEndian.PutUint16(port)))
}

// icmp6 compares the ICMPv6 type.
func icmp6(typ byte) match {
	return append(proto(unix.IPPROTO_ICMPV6),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		equal([]byte{typ}))
}

// icmp4 compares the ICMP type.
func icmp4(typ byte) match {
	return append(append(family(unix.NFPROTO_IPV4), proto(unix.IPPROTO_ICMP)...),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 0, Len: 1},
		equal([]byte{typ}))
}

// icmpError is a kind of error that quotes the packet it is about.
type icmpError struct {
	match
	protocol uint32 // where, in the message, the protocol of that packet is
}

func icmpErrors() (list []icmpError) {
	for _, typ := range []byte{unreachable4, expired4, problem4} {
		list = append(list, icmpError{icmp4(typ), 8 + 9})
	}
	for _, typ := range []byte{unreachable6, tooBig6, expired6, problem6} {
		list = append(list, icmpError{icmp6(typ), 8 + 6})
	}
	return list
}

// quotes compares the protocol of the packet that the error is about.
func (e icmpError) quotes(p byte) match {
	return match{&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: e.protocol, Len: 1}, equal([]byte{p})}
}

func saddr(p netip.Prefix, op expr.CmpOp) match { return addr(p, 12, 8, op) }
func daddr(p netip.Prefix, op expr.CmpOp) match { return addr(p, 16, 24, op) }

// addr compares an address of the network header with a prefix; it implies the family.
func addr(p netip.Prefix, off4, off6 uint32, op expr.CmpOp) match {
	fam, off := byte(unix.NFPROTO_IPV4), off4
	if p.Addr().Is6() {
		fam, off = unix.NFPROTO_IPV6, off6
	}
	size := uint32(p.Addr().BitLen() / 8)
	m := append(family(fam), &expr.Payload{DestRegister: reg, Base: expr.PayloadBaseNetworkHeader, Offset: off, Len: size})
	if !p.IsSingleIP() {
		m = append(m, &expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: size, Mask: maskOf(p), Xor: make([]byte, size)})
	}
	return append(m, &expr.Cmp{Op: op, Register: reg, Data: p.Masked().Addr().AsSlice()})
}

func maskOf(p netip.Prefix) []byte {
	mask := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}

// ctHas is true when one of the bits of a conntrack key is set.
func ctHas(key expr.CtKey, bits uint32) match {
	return match{
		&expr.Ct{Key: key, Register: reg},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(bits), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: reg, Data: make([]byte, 4)},
	}
}

func ctState(bits uint32) match { return ctHas(expr.CtKeySTATE, bits) }

// ctDNAT is true for packets of a connection that we redirected.
func ctDNAT() match { return ctHas(expr.CtKeySTATUS, 1<<5) }

// Flags of TCP.
const fin, syn, rst, ack = 1, 2, 4, 16

// flags compares some of the flags of TCP.
func flags(mask byte, op expr.CmpOp, value byte) match {
	return append(proto(unix.IPPROTO_TCP),
		&expr.Payload{DestRegister: reg, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1},
		&expr.Bitwise{SourceRegister: reg, DestRegister: reg, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
		&expr.Cmp{Op: op, Register: reg, Data: []byte{value}})
}

// notSYN is true for a TCP packet that can't open a connection.
func notSYN() match { return flags(fin|syn|rst|ack, expr.CmpOpNeq, syn) }

// answering is true for a TCP packet that belongs to a connection, or to none:
// every packet but the first one acknowledges something or ends it all.
func answering() match { return flags(rst|ack, expr.CmpOpNeq, 0) }

// resetting is true for a TCP packet that says that there is no connection.
func resetting() match { return flags(rst, expr.CmpOpNeq, 0) }

// notrack keeps a packet out of connection tracking.
func notrack() match { return match{&expr.Notrack{}} }

// reversePath compares the way back to the source with nothing: that is what it
// is when it is not the interface that the packet came in by.
func reversePath(op expr.CmpOp) match {
	return match{
		&expr.Fib{Register: reg, FlagSADDR: true, FlagIIF: true, ResultOIF: true},
		&expr.Cmp{Op: op, Register: reg, Data: make([]byte, 4)},
	}
}

// going is true for a packet of a TCP connection that both sides have spoken
// in: its first one has passed all rules, or there would be no answer. It is
// what the chains begin with that need no more than that, for its price is paid
// by every packet.
func going() match { return append(proto(unix.IPPROTO_TCP), ctState(expr.CtStateBitESTABLISHED)...) }

func (b *builder) count(name string) match {
	return match{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}}
}

// log sends the packet to the NFLOG group at once; the prefix says why.
func (b *builder) log(p Prefix) match {
	return match{&expr.Log{
		Key:        1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_QTHRESHOLD,
		Group:      b.LogGroup,
		QThreshold: 1,
		Snaplen:    snapLen,
		Data:       []byte(p),
	}}
}

// dnat redirects to one of our listeners.
func dnat(to netip.Addr, port uint16) match {
	fam := uint32(unix.NFPROTO_IPV4)
	if to.Is6() {
		fam = unix.NFPROTO_IPV6
	}
	return match{
		&expr.Immediate{Register: 1, Data: to.AsSlice()},
		&expr.Immediate{Register: 2, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: fam, RegAddrMin: 1, RegProtoMin: 2, Specified: true},
	}
}

// counterOf reads a named counter object.
func counterOf(o nftables.Obj) (name string, packets uint64, ok bool) {
	named, ok := o.(*nftables.NamedObj)
	if !ok || named.Type != nftables.ObjTypeCounter {
		return "", 0, false
	}
	c, ok := named.Obj.(*expr.Counter)
	if !ok {
		return "", 0, false
	}
	return named.Name, c.Packets, true
}
