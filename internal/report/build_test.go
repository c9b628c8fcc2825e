package report

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

func TestOutcome(t *testing.T) {
	restrict := Input{Mode: "restrict"}
	with := func(exit int, interrupted bool) Input {
		return Input{Mode: "restrict", BuildExit: exit, Interrupted: interrupted}
	}
	blocked := tls("s1", "collector.example.net", event.Blocked, 0, 0)
	known := tls("s1", "telemetry.example.com", event.Blocked, 0, 0)
	known.Conn.Expected = true
	drop := func(protocol, dest string) []event.Record {
		return join(event.Record{Drop: &event.Drop{Step: "s1", Protocol: protocol, Dest: at(dest)}})
	}
	dns := func(reason event.Reason) []event.Record {
		return join(event.Record{DNS: &event.DNS{Step: "s1", Name: "a.example.com", Type: "AXFR", Reason: reason}})
	}
	closed := func(verdict event.Verdict) event.Record {
		r := tls("s1", "pypi.org", verdict, 0, 0)
		if verdict == event.Blocked {
			r.Conn.Name, r.Conn.Protocol, r.Conn.Reason = "", "", event.ClientClosed
		}
		return r
	}
	for name, tc := range map[string]struct {
		scenario
		want     Outcome
		exit     int
		tolerant int // exit code with --fail-on-blocked=false
	}{
		"quiet":                   {scenario{input: restrict}, Clean, 0, 0},
		"allowed":                 {scenario{input: restrict, records: join(closed(event.Allowed))}, Clean, 0, 0},
		"origin down":             {scenario{input: restrict, records: join(closed(event.Failed))}, Clean, 0, 0},
		"blocked":                 {scenario{input: restrict, records: join(blocked)}, Refused, 3, 0},
		"known blocked":           {scenario{input: restrict, records: join(known)}, Clean, 0, 0},
		"udp":                     {scenario{input: restrict, records: drop("udp", "192.0.2.10:53")}, Refused, 3, 0},
		"ping":                    {scenario{input: restrict, records: drop("icmpv6", "[2001:db8::1]:0")}, Refused, 3, 0},
		"router solicitation":     {scenario{input: restrict, records: drop("icmpv6", "[ff02::2]:0")}, Clean, 0, 0},
		"site multicast":          {scenario{input: restrict, records: drop("icmpv6", "[ff05::2]:0")}, Refused, 3, 0},
		"udp to link multicast":   {scenario{input: restrict, records: drop("udp", "[ff02::fb]:5353")}, Refused, 3, 0},
		"igmp report":             {scenario{input: restrict, records: drop("igmp", "224.0.0.22:0")}, Clean, 0, 0},
		"igmp elsewhere":          {scenario{input: restrict, records: drop("igmp", "224.0.0.1:0")}, Refused, 3, 0},
		"dns refused":             {scenario{input: restrict, records: dns(event.DNSRefused)}, Refused, 3, 0},
		"dns only":                {scenario{input: restrict, records: dns("")}, Clean, 0, 0},
		"client left":             {scenario{input: restrict, records: join(closed(event.Failed))}, Clean, 0, 0},
		"closed, never allowed":   {scenario{input: restrict, records: join(closed(event.Blocked))}, Refused, 3, 0},
		"build failed":            {scenario{input: with(1, false)}, BuildFailed, 1, 1},
		"build failed, own code":  {scenario{input: with(17, false), records: join(blocked)}, BuildFailed, 17, 17},
		"build failed, no code":   {scenario{input: with(-1, false)}, BuildFailed, 1, 1},
		"incomplete":              {scenario{input: restrict, cut: true}, Incomplete, 125, 125},
		"incomplete, failed":      {scenario{input: with(1, false), cut: true}, Incomplete, 125, 125},
		"interrupted":             {scenario{input: with(1, true)}, Interrupted, 130, 130},
		"interrupted, incomplete": {scenario{input: with(0, true), cut: true}, Interrupted, 130, 130},
	} {
		t.Run(name, func(t *testing.T) {
			r := tc.run(t)
			if r.Outcome != tc.want || r.ExitCode(true) != tc.exit || r.ExitCode(false) != tc.tolerant {
				t.Errorf("got %s, exit %d and %d; want %s, %d and %d", r.Outcome, r.ExitCode(true), r.ExitCode(false), tc.want, tc.exit, tc.tolerant)
			}
			if r.Complete == tc.cut {
				t.Errorf("complete is %t", r.Complete)
			}
		})
	}
}

// Whatever the caller says, records without their ends are not complete.
func TestCompleteNeedsEnds(t *testing.T) {
	good := scenarios()["clean"].build(t)
	for name, records := range map[string][]event.Record{
		"none": nil, "no end": good.Records[:len(good.Records)-1], "no start": good.Records[1:],
	} {
		in := good
		in.Records = records
		if r := Build(in); r.Complete || r.ExitCode(false) != 125 || r.Problem == "" {
			t.Errorf("%s: complete %t, exit %d, problem %q", name, r.Complete, r.ExitCode(false), r.Problem)
		}
	}
	for _, reason := range []string{"failed: proxy died", "sealed"} {
		in := good
		in.Records = append(in.Records[:len(in.Records)-1:len(in.Records)-1], event.Record{End: &event.End{Reason: reason}})
		if r := Build(in); r.Complete != (reason == "sealed") {
			t.Errorf("end reason %q: complete %t", reason, r.Complete)
		}
	}
}

// A verdict that nobody knows is no permission.
func TestUnknownVerdictIsBlocked(t *testing.T) {
	in := scenarios()["clean"].build(t)
	for i, r := range in.Records {
		if r.Conn != nil {
			in.Records[i].Conn.Verdict = "fine"
		}
	}
	if r := Build(in); r.Outcome != Refused || r.Totals.Allowed != 0 {
		t.Errorf("outcome %s, allowed %d", r.Outcome, r.Totals.Allowed)
	}
}

func TestSuggestions(t *testing.T) {
	conn := func(c event.Conn) event.Record {
		if c.Step == "" {
			c.Step = "s1"
		}
		return event.Record{Conn: &c}
	}
	for name, tc := range map[string]struct {
		conn event.Conn
		want Allowlist
	}{
		"tls":            {event.Conn{Protocol: "tls", Name: "pypi.org", Port: 8443, Verdict: event.Blocked, Reason: event.NotAllowed}, Allowlist{Rules: policy.RuleTexts{HTTPS: rule("pypi.org:8443")}}},
		"http":           {event.Conn{Protocol: "http", Name: "pypi.org", Port: 80, Verdict: event.Audited}, Allowlist{Rules: policy.RuleTexts{HTTP: rule("pypi.org:80")}}},
		"tcp":            {event.Conn{Protocol: "tcp", Name: "pypi.org", Port: 22, Verdict: event.Audited}, Allowlist{Rules: policy.RuleTexts{TCP: rule("pypi.org:22")}}},
		"raw":            {event.Conn{Protocol: "ip", Orig: at("192.0.2.10:443"), Port: 443, Verdict: event.Blocked, Reason: event.IPNotAllowed}, Allowlist{Rules: policy.RuleTexts{IP: rule("192.0.2.10:443")}}},
		"raw, private":   {event.Conn{Protocol: "ip", Orig: at("10.1.2.3:443"), Dialled: at("10.1.2.3:443"), Port: 443, Verdict: event.Audited}, Allowlist{Rules: policy.RuleTexts{IP: rule("10.1.2.3:443")}}},
		"raw, guarded":   {event.Conn{Protocol: "ip", Orig: at("169.254.169.254:80"), Port: 80, Verdict: event.Blocked, Reason: event.IPNotAllowed}, Allowlist{}},
		"unclassified":   {event.Conn{OrigName: "github.example.com", Orig: at("198.18.0.9:22"), Port: 22, Verdict: event.Blocked, Reason: event.Unclassified}, Allowlist{Rules: policy.RuleTexts{TCP: rule("github.example.com:22")}}},
		"fake, no name":  {event.Conn{Orig: at("198.18.0.9:22"), Port: 22, Verdict: event.Blocked, Reason: event.Unclassified}, Allowlist{}},
		"ech in audit":   {event.Conn{Protocol: "tls", Name: "outer.example.com", OrigName: "pypi.org", Port: 443, Verdict: event.Audited, Flags: []string{"ech"}}, Allowlist{Rules: policy.RuleTexts{TCP: rule("pypi.org:443")}}},
		"private name":   {event.Conn{Protocol: "tls", Name: "git.example.com", Dialled: at("10.1.2.3:443"), Port: 443, Verdict: event.Audited, Flags: []string{"private"}}, Allowlist{Rules: policy.RuleTexts{HTTPS: rule("git.example.com:443")}, Private: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")}}},
		"private, ruled": {event.Conn{Protocol: "tls", Name: "git.example.com", Rule: "*.example.com:443", Resolved: netip.MustParseAddr("fd00::1"), Port: 443, Verdict: event.Blocked, Reason: event.InternalAddress}, Allowlist{Private: []netip.Prefix{netip.MustParsePrefix("fd00::1/128")}}},
		"private, audit": {event.Conn{Protocol: "tls", Name: "git.example.com", Rule: "*.example.com:443", Dialled: at("10.1.2.3:443"), Port: 443, Verdict: event.Allowed, Flags: []string{"private"}}, Allowlist{Private: []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32")}}},
		"private, open":  {event.Conn{Protocol: "tls", Name: "git.example.com", Rule: "git.example.com", Dialled: at("10.1.2.3:443"), Port: 443, Verdict: event.Allowed}, Allowlist{}},
		"builder, free":  {event.Conn{Step: event.BuilderStep, Protocol: "tls", Name: "git.example.com", Dialled: at("10.1.2.3:443"), Port: 443, Verdict: event.Allowed, Flags: []string{"private"}}, Allowlist{}},
		"metadata":       {event.Conn{Protocol: "tls", Name: "meta.example.com", Resolved: netip.MustParseAddr("169.254.169.254"), Port: 443, Verdict: event.Blocked, Reason: event.InternalAddress}, Allowlist{}},
		"known blocked":  {event.Conn{Protocol: "tls", Name: "pypi.org", Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed, Expected: true}, Allowlist{}},
		"allowed":        {event.Conn{Protocol: "tls", Name: "pypi.org", Port: 443, Verdict: event.Allowed}, Allowlist{}},
		"failed":         {event.Conn{Protocol: "tls", Name: "pypi.org", Port: 443, Verdict: event.Failed, Reason: event.DNSFailed, Rule: "pypi.org"}, Allowlist{}},
		"failed, audit":  {event.Conn{Protocol: "tls", Name: "pypi.org", Port: 443, Verdict: event.Failed, Reason: event.DNSFailed}, Allowlist{Rules: policy.RuleTexts{HTTPS: rule("pypi.org:443")}}},
		"failed, build":  {event.Conn{Step: event.BuilderStep, Protocol: "tls", Name: "pypi.org", Port: 443, Verdict: event.Failed, Reason: event.DNSFailed}, Allowlist{}},
		"bad request":    {event.Conn{Protocol: "http", Name: "pypi.org", Port: 80, Verdict: event.Blocked, Reason: event.BadRequest}, Allowlist{}},
		"no network":     {event.Conn{Protocol: "tls", Name: "pypi.org", Port: 443, Verdict: event.Blocked, Reason: event.NetworkNone}, Allowlist{}},
		"no host name":   {event.Conn{Protocol: "tls", Name: `a\x0ab: [x]`, Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed}, Allowlist{}},
		"pattern":        {event.Conn{Protocol: "tls", Name: "*.example.com", Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed}, Allowlist{}},
		"overflow":       {event.Conn{Protocol: "tls", Name: "...", Verdict: event.Blocked}, Allowlist{}},
		"builder":        {event.Conn{Step: event.BuilderStep, Protocol: "tls", Name: "pypi.org", Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed}, Allowlist{Builder: policy.RuleTexts{HTTPS: rule("pypi.org:443")}}},
	} {
		t.Run(name, func(t *testing.T) {
			r := scenario{input: Input{Mode: "restrict"}, records: join(conn(tc.conn), conn(tc.conn))}.run(t)
			if diff := cmp.Diff(tc.want, r.Allowlist(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What an audit itself refused is not learned, least of all as a rule for any protocol.
func TestAuditDoesNotLearnWhatItRefused(t *testing.T) {
	refused := event.Record{Conn: &event.Conn{Step: "s1", OrigName: "pypi.org", Orig: at("198.18.0.9:443"), Port: 443, Protocol: "tls", Verdict: event.Blocked, Reason: event.MissingSNI}}
	for mode, want := range map[string]int{"restrict": 1, "audit": 0} {
		r := scenario{input: Input{Mode: mode}, records: join(refused)}.run(t)
		if got := len(r.Allowlist().Rules.TCP); got != want {
			t.Errorf("%s: %d tcp rules suggested, want %d", mode, got, want)
		}
	}
}

func rule(text string) []policy.Text { return []policy.Text{{Text: text}} }

// A flood is cut in the lists and exact in the totals, and costs no quadratic time.
func TestFlood(t *testing.T) {
	var records []event.Record
	for i := range 20_000 {
		records = append(records, event.Record{DNS: &event.DNS{Step: "s1", Name: fmt.Sprintf("%d.exfil.example", i), Type: fmt.Sprintf("TYPE%d", i), Fold: event.Fold{Count: 3}}})
		records = append(records, event.Record{Conn: &event.Conn{Step: "s1", Protocol: "tls", Name: "collector.example.net", RawName: fmt.Sprint(i), Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed}})
	}
	r := scenario{input: Input{Mode: "restrict"}, records: records}.run(t)
	if len(r.DNSOnly) != dnsOnlyLimit || r.Totals.DNSOnly != 20_000 || r.Totals.DNS != 60_000 || r.Totals.Blocked != 20_000 {
		t.Errorf("%d names listed, totals %+v", len(r.DNSOnly), r.Totals)
	}
	if raw := r.Destinations[0].NameRaw; len(raw) != evidenceLimit+1 || raw[evidenceLimit] != more {
		t.Errorf("%d spellings", len(raw))
	}
}

// A name that one step only asked for is not hidden by another step's connection.
func TestDNSOnlyIsPerStep(t *testing.T) {
	r := scenario{input: Input{Mode: "restrict"}, records: join(
		asked("s1", "pypi.org", "A", "AAAA"), tls("s1", "pypi.org", event.Allowed, 1, 1), asked("s2", "pypi.org", "A"))}.run(t)
	if len(r.DNSOnly) != 1 || !cmp.Equal(r.DNSOnly[0].Steps, []string{"s2"}) || r.DNSOnly[0].Count != 1 {
		t.Errorf("got %+v", r.DNSOnly)
	}
}
