package supervise

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/journal"
	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/cage/upstream"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// newTenant has a policy with one rule for the builder.
func newTenant(t *testing.T, id, rule string) (one *tenant.Tenant, record string) {
	t.Helper()
	compiled, err := policy.Compile(policy.Spec{Builder: &policy.RuleTexts{TCP: []policy.Text{{Text: rule}}}})
	if err != nil {
		t.Fatal(err)
	}
	record = filepath.Join(t.TempDir(), "record.jsonl")
	j, err := journal.New(record, journal.Clock{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.Seal("") })
	j.Add(event.Record{Kind: event.KindStart, Start: &event.Start{Version: event.Version, RunID: id}})
	return &tenant.Tenant{ID: id, Policy: compiled, Trace: tenant.NewTrace(), Journal: j}, record
}

// Whatever clients call their builds, each set of them has a judge of its own.
func TestBuilderOfWhom(t *testing.T) {
	p := new(parts)
	var all []*step.Step
	for _, ids := range [][]string{{"a b"}, {"a", "b"}, {"a"}, {"a"}} {
		p.tenants = tenant.Table{}
		for _, id := range ids {
			one, _ := newTenant(t, id, "git.example.com:22")
			if err := p.tenants.Add(one); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, p.builder("git.example.com"))
	}
	for i, a := range all {
		for j, b := range all[:i] {
			if a == b {
				t.Errorf("%d is judged as %d", i, j)
			}
		}
	}
}

// BuildKit keeps its connections when the build that they were for is over:
// the record of that has them all the same.
func TestOutlasting(t *testing.T) {
	p := new(parts)
	records := make(map[*tenant.Tenant]string)
	for _, id := range []string{"house", "one", "other"} {
		m, record := newTenant(t, id, "git.example.com:*")
		records[m] = record
		if p.house == nil {
			p.house = m
		}
		if err := p.tenants.Add(m); err != nil {
			t.Fatal(err)
		}
	}
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	go func() {
		c, err := origin.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		io.Copy(c, c)
	}()
	port := origin.Addr().(*net.TCPAddr).AddrPort().Port()
	p.proxy = &proxy.Server{
		Steps: &p.steps, Builder: p.builder, Record: p.record,
		Own:    func(netip.Addr) bool { return true },
		NameOf: func(netip.Addr) (string, bool) { return "git.example.com", true },
		Original: func(int, netip.AddrPort) (netip.AddrPort, error) {
			return netip.AddrPortFrom(netip.MustParseAddr("198.18.0.5"), port), nil
		},
		Dialer: &upstream.Dialer{
			Lookup: func(context.Context, string) ([]netip.Addr, error) {
				return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
			},
			Check: func(netip.Addr) policy.Class { return policy.Public },
		},
	}
	l, err := proxy.Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- p.proxy.Serve(ctx, l) }()
	defer func() {
		stop()
		<-served
		p.proxy.Drain(ctx)
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	for _, one := range p.tenants.All()[1:] {
		p.tenants.Remove(one)
		p.outlasting(t.Context(), one)
		if err := one.Journal.Seal(sealed); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(records[one])
		if err != nil {
			t.Fatal(err)
		}
		if strings.Count(string(text), `"kind":"conn"`) != 1 || !strings.Contains(string(text), `"git.example.com"`) {
			t.Errorf("the record of %s:\n%s", one.ID, text)
		}
	}
	if n := len(p.builders.sets); n > 0 {
		t.Errorf("%d sets are left", n)
	}
}
