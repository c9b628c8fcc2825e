package supervise

import (
	"errors"
	"net"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/lab"
	"github.com/buildcage/buildcage/internal/cage/selftest"
	"github.com/buildcage/buildcage/internal/policy"
)

// The self-test passes in a good cage, whatever its policy, leaves nothing in
// the record, and fails by name for each control that does not hold.
func TestSelfTest(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	w := newWorld(t, policy.Spec{Mode: policy.Audit, Rules: policy.RuleTexts{IP: []policy.Text{{Text: "0.0.0.0/0:*"}, {Text: "[::/0]:*"}}}})
	test := func() error {
		_, err := w.selfTest(t.Context(), t.Context())
		<-w.tested
		return err
	}
	if err := test(); err != nil {
		t.Fatalf("a good cage: %v", err)
	}
	if link, err := net.InterfaceByName("selftest0"); err == nil {
		t.Errorf("%s is left", link.Name)
	}
	for name, breach := range map[string]struct {
		family nftables.TableFamily
		proto  byte
		port   uint16
		hook   *nftables.ChainHook
	}{
		"TCP of a step over IPv4":      {nftables.TableFamilyIPv4, unix.IPPROTO_TCP, 80, nftables.ChainHookPrerouting},
		"UDP of a step over IPv4":      {nftables.TableFamilyIPv4, unix.IPPROTO_UDP, 9, nftables.ChainHookPrerouting},
		"names over IPv4":              {nftables.TableFamilyIPv4, unix.IPPROTO_UDP, 53, nftables.ChainHookPrerouting},
		"TCP of a step over IPv6":      {nftables.TableFamilyIPv6, unix.IPPROTO_TCP, 80, nftables.ChainHookPrerouting},
		"UDP of a step over IPv6":      {nftables.TableFamilyIPv6, unix.IPPROTO_UDP, 9, nftables.ChainHookPrerouting},
		"TCP of the builder over IPv4": {nftables.TableFamilyIPv4, unix.IPPROTO_TCP, 80, nftables.ChainHookOutput},
		"UDP of the builder over IPv4": {nftables.TableFamilyIPv4, unix.IPPROTO_UDP, 9, nftables.ChainHookOutput},
	} {
		mend := swallow(t, breach.family, breach.hook, breach.proto, breach.port)
		err := test()
		mend()
		var failed *selftest.Error
		if !errors.As(err, &failed) || failed.Control != name {
			t.Errorf("%s swallowed by somebody's rule: %v", name, err)
		}
	}
	if err := test(); err != nil {
		t.Errorf("mended: %v", err)
	}
	must(t, w.seal(t.Context(), "sealed"))
	if got := w.summary(t); len(got) != 1 {
		t.Errorf("the self-test is in the record: %q", got)
	}
}

// swallow adds a table of somebody else's, which drops packets before the
// cage's rules see them.
func swallow(t *testing.T, family nftables.TableFamily, hook *nftables.ChainHook, proto byte, port uint16) (mend func()) {
	t.Helper()
	c := &nftables.Conn{}
	table := c.AddTable(&nftables.Table{Family: family, Name: "somebody"})
	chain := c.AddChain(&nftables.Chain{Name: "c", Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityRef(-400)})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{proto}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{byte(port >> 8), byte(port)}},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}})
	must(t, c.Flush())
	return func() {
		c.DelTable(table)
		must(t, c.Flush())
	}
}
