package notice

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

func scope(t *testing.T, command string) *policy.Scope {
	t.Helper()
	p, err := policy.Compile(policy.Spec{Steps: []policy.StepSpec{{Run: "npm*", MaxUpload: 512}}})
	if err != nil {
		t.Fatal(err)
	}
	return p.For(policy.Step{Command: command})
}

func TestLine(t *testing.T) {
	addr := netip.MustParseAddrPort
	tls := event.Conn{Step: "s1", Protocol: "tls", Name: "exfil.example", Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed}
	with := func(change func(*event.Conn)) event.Record {
		c := tls
		change(&c)
		return event.Record{Conn: &c}
	}
	for name, tc := range map[string]struct {
		r       event.Record
		command string
		want    string
	}{
		"tls": {
			r: with(func(c *event.Conn) {
				c.Process = &event.Process{Exe: "/usr/bin/node", Args: []string{"/usr/bin/node", "postinstall.js"}}
			}),
			want: "buildcage: refused tls exfil.example:443 (not-allowed) by node postinstall.js; to allow: allowed_https_rules: exfil.example:443",
		},
		"entry of steps": {
			r: with(func(*event.Conn) {}), command: "npm ci",
			want: "buildcage: refused tls exfil.example:443 (not-allowed); to allow: allowed_https_rules: exfil.example:443 in steps[0]",
		},
		"address": {
			r: event.Record{Conn: &event.Conn{Step: "s1", Protocol: "ip", Orig: addr("192.0.2.1:22"), Port: 22,
				Verdict: event.Blocked, Reason: event.IPNotAllowed}},
			want: "buildcage: refused ip 192.0.2.1:22 (ip-not-allowed); to allow: allowed_ip_rules: 192.0.2.1:22",
		},
		"private": {
			r: with(func(c *event.Conn) {
				c.Reason, c.Resolved = event.InternalAddress, netip.MustParseAddr("10.1.2.3")
			}),
			want: "buildcage: refused tls exfil.example:443 (internal-address); to allow: allow_private: 10.1.2.3/32",
		},
		"upload": {
			r: with(func(c *event.Conn) { c.Reason = event.UploadBudget }), command: "npm ci",
			want: "buildcage: refused tls exfil.example:443 (upload-budget); to allow: a max_upload of more than 512 bytes",
		},
		"structure": {
			r:    with(func(c *event.Conn) { c.Reason = event.ECHPresent }),
			want: "buildcage: refused tls exfil.example:443 (ech-present)",
		},
		"hostile": {
			r: with(func(c *event.Conn) {
				c.Name, c.RawName, c.Reason = "", "a\x1b[2J\n##", event.InvalidSNI
			}),
			want: `buildcage: refused tls a\x1b[2J\x0a#\x23:443 (invalid-sni)`,
		},
		"expected": {r: with(func(c *event.Conn) { c.Expected = true })},
		"audited":  {r: with(func(c *event.Conn) { c.Verdict = event.Audited })},
		"udp": {
			r:    event.Record{Drop: &event.Drop{Step: "s1", Protocol: "udp", Dest: addr("192.0.2.1:123"), Name: "time.example"}},
			want: "buildcage: refused udp to time.example (192.0.2.1:123): only TCP leaves the cage",
		},
		"icmp": {
			r:    event.Record{Drop: &event.Drop{Step: "s1", Protocol: "icmp", Dest: addr("192.0.2.1:0")}},
			want: "buildcage: refused icmp to 192.0.2.1: only TCP leaves the cage",
		},
		"router solicitation": {r: event.Record{Drop: &event.Drop{Step: "s1", Protocol: "icmpv6", Dest: addr("[ff02::2]:0")}}},
		"foreign resolver": {
			r:    event.Record{DNS: &event.DNS{Step: "s1", Name: "a.example", Foreign: netip.MustParseAddr("192.0.2.53")}},
			want: "buildcage: dns question for a.example to 192.0.2.53 did not leave: the cage answers it",
		},
		"own resolver": {r: event.Record{DNS: &event.DNS{Step: "s1", Name: "a.example"}}},
		"step":         {r: event.Record{Step: &event.Step{ID: "s1"}}},
	} {
		t.Run(name, func(t *testing.T) {
			step, got := Line(tc.r, scope(t, tc.command+"x"))
			want := ""
			if tc.want != "" {
				want = "s1"
			}
			if d := cmp.Diff(tc.want, got); d != "" || step != want {
				t.Errorf("step %q (-want +got):\n%s", step, d)
			}
		})
	}
}

func TestLineIsBounded(t *testing.T) {
	c := event.Conn{Verdict: event.Blocked, Name: strings.Repeat("a", 10_000)}
	if _, line := Line(event.Record{Conn: &c}, nil); len(line) > longest {
		t.Errorf("a line of %d bytes", len(line))
	}
}

func TestBoard(t *testing.T) {
	var b Board
	b.Post("s1", "before it began")
	b.Open("s1")
	lines := b.Lines("s1")
	for i := range Most + 5 { // nobody reads: none of this may wait
		b.Post("s1", fmt.Sprintf("line %d", i))
		b.Post("s1", fmt.Sprintf("line %d", i))
	}
	b.Close("s1")
	b.Close("s1")
	b.Post("s1", "after it ended")
	var got []string
	for line := range lines {
		got = append(got, line)
	}
	if len(got) != Most+1 || got[0] != "line 0" || got[Most-1] != "line 19" ||
		got[Most] != "buildcage: and 30 more refused in this step; the report has them all" {
		t.Errorf("%q", got)
	}
	if b.Lines("s1") != nil || len(b.steps) != 0 {
		t.Error("a step that ended is still known")
	}
}
