package evidence

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

func addr(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func scopes(t *testing.T, spec policy.Spec) func(Run) *policy.Scope {
	t.Helper()
	p, err := policy.Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return func(r Run) *policy.Scope {
		return p.For(policy.Step{Command: r.Command, Secrets: r.Secrets})
	}
}

func rules(https ...string) policy.Spec {
	var spec policy.Spec
	for _, r := range https {
		spec.Rules.HTTPS = append(spec.Rules.HTTPS, policy.Text{Text: r})
	}
	return spec
}

func tls(name string, change func(*event.Conn)) event.Conn {
	c := event.Conn{
		Step: "s1", Protocol: "tls", Name: name, OrigName: name, Orig: addr("198.18.0.9:443"), Port: 443,
		Dialled: addr("203.0.113.7:443"), Verdict: event.Allowed,
	}
	if change != nil {
		change(&c)
	}
	return c
}

func text(r event.Record) string {
	switch {
	case r.Conn != nil:
		return fmt.Sprintf("%s %s %s:%d %s %v", r.Conn.Verdict, r.Conn.Protocol, r.Conn.Name, r.Conn.Port, r.Conn.Reason, r.Conn.Flags)
	case r.Drop != nil:
		return "drop " + r.Drop.Protocol + " " + r.Drop.Dest.String()
	}
	return "dns " + r.DNS.Name
}

func TestJudge(t *testing.T) {
	audit := func(s policy.Spec) policy.Spec { s.Mode = policy.Audit; return s }
	a := rules("a.example")
	blocked := func(reason event.Reason) func(*event.Conn) {
		return func(c *event.Conn) { c.Verdict, c.Reason, c.Dialled = event.Blocked, reason, netip.AddrPort{} }
	}
	none := policy.Spec{Steps: []policy.StepSpec{{Network: "none"}}}
	budget := policy.Spec{Steps: []policy.StepSpec{{Rules: a.Rules, MaxUpload: 10}}}
	secret := true
	secrets := policy.Spec{Rules: a.Rules, Steps: []policy.StepSpec{{Secrets: &secret}}}
	known := rules("a.example")
	known.KnownBlocked = []policy.Text{{Text: "t.example"}}
	tcp := policy.Spec{Rules: policy.RuleTexts{TCP: []policy.Text{{Text: "a.example:443"}}}}
	for name, tc := range map[string]struct {
		spec    policy.Spec
		run     Run
		want    []string
		verdict event.EvidenceVerdict
	}{
		"nothing":         {spec: a, verdict: event.EvidenceClean},
		"allowed":         {a, Run{Conns: []event.Conn{tls("a.example", nil)}}, []string{"allowed tls a.example:443  [cached]"}, event.EvidenceClean},
		"rule is gone":    {rules(), Run{Conns: []event.Conn{tls("a.example", nil)}}, []string{"blocked tls a.example:443 not-allowed [cached]"}, event.EvidenceViolates},
		"refused then":    {a, Run{Conns: []event.Conn{tls("b.example", blocked(event.NotAllowed))}}, []string{"blocked tls b.example:443 not-allowed [cached]"}, event.EvidenceViolates},
		"allowed since":   {a, Run{Conns: []event.Conn{tls("a.example", blocked(event.NotAllowed))}}, []string{"allowed tls a.example:443  [cached]"}, event.EvidenceClean},
		"by another list": {tcp, Run{Conns: []event.Conn{tls("a.example", nil)}}, []string{"allowed tls a.example:443  [cached]"}, event.EvidenceClean},
		"audit":           {audit(rules()), Run{Conns: []event.Conn{tls("a.example", nil)}}, []string{"audited tls a.example:443 not-allowed [cached]"}, event.EvidenceClean},
		"expected":        {known, Run{Conns: []event.Conn{tls("t.example", nil)}}, []string{"blocked tls t.example:443 not-allowed [cached]"}, event.EvidenceClean},
		"structure stays": {audit(a), Run{Conns: []event.Conn{tls("a.example", blocked(event.HelloMalformed))}}, []string{"blocked tls a.example:443 client-hello-malformed [cached]"}, event.EvidenceViolates},
		"ech": {a, Run{Conns: []event.Conn{tls("a.example", func(c *event.Conn) { c.Flags = []string{"ech"} })}},
			[]string{"blocked tls a.example:443 ech-present [ech cached]"}, event.EvidenceViolates},
		"private": {a, Run{Conns: []event.Conn{tls("a.example", func(c *event.Conn) { c.Dialled = addr("10.0.0.1:443") })}},
			[]string{"blocked tls a.example:443 internal-address [cached]"}, event.EvidenceViolates},
		"metadata": {audit(a), Run{Conns: []event.Conn{tls("a.example", func(c *event.Conn) {
			c.Verdict, c.Reason, c.Resolved = event.Blocked, event.InternalAddress, netip.MustParseAddr("169.254.169.254")
		})}}, []string{"blocked tls a.example:443 internal-address [cached]"}, event.EvidenceViolates},
		"failed": {a, Run{Conns: []event.Conn{tls("a.example", func(c *event.Conn) { c.Verdict = event.Failed })}},
			[]string{"failed tls a.example:443 upstream-error [cached]"}, event.EvidenceClean},
		"raw address": {a, Run{Conns: []event.Conn{{Protocol: "ip", Orig: addr("192.0.2.1:22"), Port: 22, Verdict: event.Audited}}},
			[]string{"blocked ip :22 ip-not-allowed [cached]"}, event.EvidenceViolates},
		"network none": {audit(none), Run{Command: "x", Conns: []event.Conn{tls("a.example", nil)}},
			[]string{"blocked tls a.example:443 network-none [cached]"}, event.EvidenceViolates},
		"upload": {budget, Run{Command: "x", Conns: []event.Conn{tls("a.example", func(c *event.Conn) { c.Up = 11 })}},
			[]string{"blocked tls a.example:443 upload-budget [cached]"}, event.EvidenceViolates},
		"secrets": {secrets, Run{Command: "x", Secrets: true, Conns: []event.Conn{tls("a.example", nil)}},
			[]string{"blocked tls a.example:443 not-allowed [cached]"}, event.EvidenceViolates},
		"drop":          {a, Run{Drops: []event.Drop{{Protocol: "udp", Dest: addr("192.0.2.1:53")}}}, []string{"drop udp 192.0.2.1:53"}, event.EvidenceViolates},
		"kernel noise":  {a, Run{Drops: []event.Drop{{Protocol: "icmpv6", Dest: addr("[ff02::2]:0")}}}, []string{"drop icmpv6 [ff02::2]:0"}, event.EvidenceClean},
		"name asked":    {a, Run{DNS: []event.DNS{{Name: "x.example"}}}, []string{"dns x.example"}, event.EvidenceClean},
		"name refused":  {a, Run{DNS: []event.DNS{{Name: "x.example", Reason: event.DNSRefused}}}, []string{"dns x.example"}, event.EvidenceViolates},
		"cut":           {a, Run{Cut: true}, nil, event.EvidenceMissing},
		"cut, violates": {rules(), Run{Cut: true, Conns: []event.Conn{tls("a.example", nil)}}, []string{"blocked tls a.example:443 not-allowed [cached]"}, event.EvidenceViolates},
	} {
		t.Run(name, func(t *testing.T) {
			e := Evidence{Runs: []Run{tc.run}}
			records, verdict := e.Judge(scopes(t, tc.spec))
			var got []string
			for _, r := range records {
				got = append(got, text(r))
			}
			if d := cmp.Diff(tc.want, got); d != "" || verdict != tc.verdict {
				t.Errorf("verdict %s, want %s (-want +got):\n%s", verdict, tc.verdict, d)
			}
		})
	}
}

// An audit wants to see a step that nobody stops: a run that was refused
// something is not enough, one beside it that was not is.
func TestJudgeForAudit(t *testing.T) {
	stopped := Run{Conns: []event.Conn{tls("a.example", func(c *event.Conn) {
		c.Verdict, c.Reason, c.Dialled = event.Blocked, event.NotAllowed, netip.AddrPort{}
	})}}
	free := Run{Conns: []event.Conn{tls("a.example", func(c *event.Conn) { c.Dialled = addr("10.0.0.1:443") })}}
	spec := rules()
	spec.Mode = policy.Audit
	open := spec
	open.AllowPrivate = []policy.Text{{Text: "10.0.0.0/8"}}
	for name, tc := range map[string]struct {
		spec    policy.Spec
		e       Evidence
		want    string
		verdict event.EvidenceVerdict
	}{
		"stopped":      {spec, Evidence{Runs: []Run{stopped}}, "audited tls a.example:443 not-allowed [cached]", event.EvidenceMissing},
		"free":         {spec, Evidence{Runs: []Run{free}}, "audited tls a.example:443 not-allowed [private cached]", event.EvidenceClean},
		"both":         {spec, Evidence{Runs: []Run{stopped, free}}, "audited tls a.example:443 not-allowed [private cached]", event.EvidenceClean},
		"different":    {spec, Evidence{Runs: []Run{{Conns: []event.Conn{tls("b.example", nil)}}, free}}, "audited tls a.example:443 not-allowed [private cached]", event.EvidenceMissing},
		"more of late": {spec, Evidence{Runs: []Run{{}, free}}, "audited tls a.example:443 not-allowed [private cached]", event.EvidenceMissing},
		"less of late": {spec, Evidence{Runs: []Run{free, {}}}, "audited tls a.example:443 not-allowed [private cached]", event.EvidenceMissing},
		"only stopped": {spec, Evidence{Runs: []Run{stopped, {}}}, "audited tls a.example:443 not-allowed [cached]", event.EvidenceMissing},
		"not private":  {open, Evidence{Runs: []Run{free}}, "audited tls a.example:443 not-allowed [cached]", event.EvidenceClean},
		"doubt counts": {spec, Evidence{Runs: []Run{free}, Doubt: "x"}, "audited tls a.example:443 not-allowed [private cached]", event.EvidenceMissing},
	} {
		records, verdict := tc.e.Judge(scopes(t, tc.spec))
		if len(records) == 0 || text(records[0]) != tc.want || verdict != tc.verdict {
			t.Errorf("%s: %v, %s", name, records, verdict)
			for _, r := range records {
				t.Log(text(r))
			}
		}
	}
}

// A cached step answers for all runs that it may be the result of.
func TestJudgeAllRuns(t *testing.T) {
	e := Evidence{Runs: []Run{
		{Conns: []event.Conn{tls("b.example", nil)}},
		{Conns: []event.Conn{tls("a.example", nil)}}, {Conns: []event.Conn{tls("a.example", nil)}},
	}}
	records, verdict := e.Judge(scopes(t, rules("a.example")))
	if len(records) != 2 || verdict != event.EvidenceViolates {
		t.Errorf("%d records, %s", len(records), verdict)
	}
	if _, verdict := (&Evidence{}).Judge(scopes(t, rules())); verdict != event.EvidenceMissing {
		t.Errorf("no run at all: %s", verdict)
	}
	if _, verdict := (&Evidence{Runs: []Run{{}}, Doubt: "x"}).Judge(scopes(t, rules())); verdict != event.EvidenceMissing {
		t.Errorf("doubt: %s", verdict)
	}
	for range 2 * maxRuns {
		e.add(Run{Conns: []event.Conn{tls("a.example", nil)}})
	}
	if _, verdict := e.Judge(scopes(t, rules("a.example"))); len(e.Runs) != maxRuns || verdict != event.EvidenceViolates {
		t.Errorf("%d runs, %s: the oldest was forgotten", len(e.Runs), verdict)
	}
}

func TestObserver(t *testing.T) {
	var o Observer
	o.Begin("s1")
	o.Begin("s2")
	c := tls("a.example", func(c *event.Conn) { c.Up = 5 })
	for range 3 {
		o.See(event.Record{Conn: &c})
	}
	for i := range 2 * maxEntries {
		d := event.Drop{Step: "s2", Protocol: "udp", Dest: netip.AddrPortFrom(addr("192.0.2.1:1").Addr(), uint16(i))}
		o.See(event.Record{Drop: &d})
	}
	one, two := o.End("s1"), o.End("s2")
	if len(one.Conns) != 1 || one.Conns[0].Count != 3 || one.Conns[0].Up != 15 || one.Conns[0].Step != "" || one.Cut {
		t.Errorf("%+v", one)
	}
	if len(two.Drops) != maxEntries || !two.Cut {
		t.Errorf("%d drops, cut %v", len(two.Drops), two.Cut)
	}
	if !o.End("s1").Cut {
		t.Error("a step that nobody watched has complete evidence")
	}
	if slices.Contains(c.Flags, FlagCached) {
		t.Error("the record was changed")
	}
}
