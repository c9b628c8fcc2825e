package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Prefix is the reason in front of a logged packet.
type Prefix string

const (
	LogRefused Prefix = "refused" // of a step, not TCP and not DNS
	LogForeign Prefix = "foreign" // DNS of a step to a resolver that is not ours
	LogSpoofed Prefix = "spoofed" // of a step, with a source that is not its own
	LogBuilder Prefix = "builder" // of the builder, not TCP and not DNS
)

// snapLen is how much of a packet is logged: headers and a whole DNS question.
const snapLen = 384

// ICMP types that the rules name.
const (
	unreachable4    = 3
	expired4        = 11
	problem4        = 12
	unreachable6    = 1
	tooBig6         = 2
	expired6        = 3
	problem6        = 4
	mldQuery        = 130
	mldReport       = 131
	mldDone         = 132
	routerSolicit   = 133
	neighbourAsk    = 135
	neighbourAnswer = 136
	mldReport2      = 143
)

// A step's questions over UDP share one socket with those of other steps. What
// is far beyond the nameserver's own limit, which records it, never gets there.
const (
	questionRate  = 4000 // a second
	questionBurst = 8000
	askerTimeout  = time.Minute // of a link that went quiet
	maxAskers     = 4096
)

// baseChains is the number of chains with a hook.
const baseChains = 9

// priorityRaw is in front of connection tracking.
const priorityRaw = -300

// priorityRefuse is behind the redirection, so that what was redirected shows.
const priorityRefuse = -90

type builder struct {
	Config
	conn    *nftables.Conn
	table   *nftables.Table
	indexes []uint32      // of the uplinks
	uplinks *nftables.Set // of them, where there are several; else nil
	askers  *nftables.Set
}

func (b *builder) build() error {
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: Table}
	b.conn.AddTable(table)
	b.conn.DelTable(table)
	b.table = b.conn.AddTable(table)
	if err := b.addUplinks(); err != nil {
		return err
	}
	b.askers = &nftables.Set{
		Table: b.table, Name: "askers", KeyType: nftables.TypeIFIndex, KeyByteOrder: binaryutil.NativeEndian,
		Dynamic: true, HasTimeout: true, Timeout: askerTimeout, Size: maxAskers,
	}
	if err := b.conn.AddSet(b.askers, nil); err != nil {
		return fmt.Errorf("building the set of askers: %w", err)
	}
	for _, name := range []string{"builder", "flooded", "foreign", "invalid", "noise", "refused", "spoofed", "uplink"} {
		b.conn.AddObj(&nftables.NamedObj{Table: b.table, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	}
	b.source()
	b.untracked()
	b.state()
	b.redirectSteps()
	b.refuse()
	b.input()
	b.forward()
	b.redirectBuilder()
	b.output()
	return nil
}

func (b *builder) chain(name string, typ nftables.ChainType, hook *nftables.ChainHook, priority int32, policy nftables.ChainPolicy) func(...match) {
	chain := b.conn.AddChain(&nftables.Chain{
		Name: name, Table: b.table, Type: typ, Hooknum: hook,
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(priority)), Policy: &policy,
	})
	return func(parts ...match) {
		b.conn.AddRule(&nftables.Rule{Table: b.table, Chain: chain, Exprs: slices.Concat(parts...)})
	}
}

// notSteps ends a prerouting chain for traffic that no step sent.
func (b *builder) notSteps(rule func(...match)) {
	rule(iif(loopback), accept())
	rule(b.uplink(expr.MetaKeyIIF), accept())
}

func neighbours(rule func(...match)) {
	for _, typ := range []byte{neighbourAsk, neighbourAnswer} {
		rule(icmp6(typ), accept())
	}
}

// source drops what does not carry the step's own address. Link-local IPv6
// sources go on to be refused: nothing we offer answers to them. TCP on the
// uplinks is left to the sockets that it belongs to; see untracked.
func (b *builder) source() {
	rule := b.chain("source", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, priorityRaw, nftables.ChainPolicyAccept)
	for _, net := range []netip.Prefix{b.StepNet4, b.StepNet6} { // most packets by far, with those of the uplinks
		rule(proto(unix.IPPROTO_TCP), saddr(net, expr.CmpOpEq), reversePath(expr.CmpOpNeq), accept())
	}
	for _, net := range []netip.Prefix{b.StepNet4, b.StepNet6, b.FakeNet4, b.FakeNet6} { // what answers them stays here
		rule(saddr(net, expr.CmpOpEq), b.uplink(expr.MetaKeyIIF), b.count("uplink"), drop())
	}
	rule(b.uplink(expr.MetaKeyIIF), proto(unix.IPPROTO_TCP), notrack(), accept())
	b.notSteps(rule)
	for _, typ := range []byte{mldQuery, mldReport, mldDone, routerSolicit, mldReport2} {
		rule(icmp6(typ), b.count("noise"), drop())
	}
	neighbours(rule)
	rule(saddr(netip.MustParsePrefix("fe80::/10"), expr.CmpOpEq), accept())
	for _, net := range []netip.Prefix{b.StepNet4, b.StepNet6} {
		rule(saddr(net, expr.CmpOpNeq), b.count("spoofed"), b.log(LogSpoofed), drop())
	}
	rule(reversePath(expr.CmpOpEq), b.count("spoofed"), b.log(LogSpoofed), drop())
}

// state drops TCP outside of a connection and questions beyond any use, and
// names foreign DNS before the redirection hides where it was meant to go.
func (b *builder) state() {
	rule := b.chain("state", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, -150, nftables.ChainPolicyAccept)
	rule(going(), accept())
	b.notSteps(rule)
	rule(proto(unix.IPPROTO_TCP), ctState(expr.CtStateBitINVALID), b.count("invalid"), drop())
	rule(notSYN(), ctState(expr.CtStateBitNEW), b.count("invalid"), drop())
	rule(dport(unix.IPPROTO_UDP, 53), b.tooFast(), b.count("flooded"), drop())
	for _, to := range []netip.Addr{b.Listen4, b.Listen6} {
		rule(daddr(single(to), expr.CmpOpNeq), dport(unix.IPPROTO_UDP, 53), b.count("foreign"), b.log(LogForeign))
	}
}

// redirectSteps sends DNS to the nameserver and all other TCP to the proxy.
func (b *builder) redirectSteps() {
	rule := b.chain("redirect_steps", nftables.ChainTypeNAT, nftables.ChainHookPrerouting, -100, nftables.ChainPolicyAccept)
	b.notSteps(rule)
	for _, s := range []struct {
		steps netip.Prefix
		to    netip.Addr
	}{{b.StepNet4, b.Listen4}, {b.StepNet6, b.Listen6}} {
		who := saddr(s.steps, expr.CmpOpEq)
		rule(who, daddr(single(s.to), expr.CmpOpNeq), dport(unix.IPPROTO_UDP, 53), dnat(s.to, b.ForeignPort))
		b.redirect(rule, who, s.to)
	}
}

func (b *builder) redirect(rule func(...match), who match, to netip.Addr) {
	rule(who, dport(unix.IPPROTO_UDP, 53), dnat(to, b.DNSPort))
	rule(who, dport(unix.IPPROTO_TCP, 53), dnat(to, b.DNSPort))
	rule(who, proto(unix.IPPROTO_TCP), dnat(to, b.ProxyPort))
}

// offers calls f for every listener of ours.
func (b *builder) offers(f func(to netip.Prefix, proto byte, port uint16)) {
	for _, to := range []netip.Addr{b.Listen4, b.Listen6} {
		f(single(to), unix.IPPROTO_UDP, b.DNSPort)
		f(single(to), unix.IPPROTO_TCP, b.DNSPort)
		f(single(to), unix.IPPROTO_TCP, b.ProxyPort)
	}
}

// refuse logs and counts, in one place, what input and forward will reject:
// a packet without a route never gets there.
func (b *builder) refuse() {
	rule := b.chain("refuse", nftables.ChainTypeFilter, nftables.ChainHookPrerouting, priorityRefuse, nftables.ChainPolicyAccept)
	rule(going(), accept())
	b.notSteps(rule)
	neighbours(rule)
	rule(ctDNAT(), accept())
	b.offers(func(to netip.Prefix, p byte, port uint16) {
		rule(daddr(to, expr.CmpOpEq), dport(p, port), accept())
	})
	// A resolver that asks twice closes its socket after the first answer; its
	// kernel says so to our nameserver. That goes nowhere and is no attempt.
	rule(daddr(single(b.Listen4), expr.CmpOpEq), icmp4(unreachable4), b.count("noise"), drop())
	rule(daddr(single(b.Listen6), expr.CmpOpEq), icmp6(unreachable6), b.count("noise"), drop())
	rule(b.count("refused"), b.log(LogRefused))
}

// input lets steps reach the two listeners, and the uplinks answer us. TCP that
// comes from there is an answer or an end, and never to a listener. TCP itself
// compares the errors about it with the connection that they quote, as it compares
// answers; errors about UDP are those of a question that is remembered.
func (b *builder) input() {
	rule := b.chain("input", nftables.ChainTypeFilter, nftables.ChainHookInput, 0, nftables.ChainPolicyDrop)
	rule(going(), accept())
	up := b.uplink(expr.MetaKeyIIF)
	for _, listener := range []netip.Addr{b.Listen4, b.Listen6} {
		rule(up, answering(), daddr(single(listener), expr.CmpOpNeq), accept())
	}
	rule(iif(loopback), accept())
	neighbours(rule)
	for _, err := range icmpErrors() {
		rule(up, err.match, err.quotes(unix.IPPROTO_TCP), accept())
	}
	rule(up, ctState(expr.CtStateBitESTABLISHED|expr.CtStateBitRELATED), accept())
	rule(up, b.count("uplink"), drop())
	b.offers(func(to netip.Prefix, p byte, port uint16) {
		rule(daddr(to, expr.CmpOpEq), dport(p, port), accept())
	})
	for _, to := range []netip.Addr{b.Listen4, b.Listen6} {
		rule(ctDNAT(), daddr(single(to), expr.CmpOpEq), dport(unix.IPPROTO_UDP, b.ForeignPort), accept())
	}
	rule(reject())
}

// forward lets nothing through.
func (b *builder) forward() {
	rule := b.chain("forward", nftables.ChainTypeFilter, nftables.ChainHookForward, 0, nftables.ChainPolicyDrop)
	rule(b.uplink(expr.MetaKeyIIF), b.count("uplink"), drop())
	rule(reject())
}

// redirectBuilder does for the processes in the cage what redirectSteps does
// for steps. Loopback addresses and our own listeners are left alone, and so
// are the sockets that carry the mark.
func (b *builder) redirectBuilder() {
	rule := b.chain("redirect_builder", nftables.ChainTypeNAT, nftables.ChainHookOutput, -100, nftables.ChainPolicyAccept)
	rule(mark(b.Mark), accept())
	for _, local := range []string{"127.0.0.0/8", "::1/128"} {
		rule(daddr(netip.MustParsePrefix(local), expr.CmpOpEq), accept())
	}
	if b.EngineDNS {
		rule(b.uplink(expr.MetaKeyOIF), dport(unix.IPPROTO_UDP, 53), accept())
	}
	b.redirect(rule, family(unix.NFPROTO_IPV4), b.Listen4)
	b.redirect(rule, family(unix.NFPROTO_IPV6), b.Listen6)
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
