package supervise

import (
	"encoding/json"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/evidence"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Who joins a step gets to know that it sent more than allowed, also over a
// connection that was open already.
func TestJoinBudget(t *testing.T) {
	rules := policy.RuleTexts{TCP: []policy.Text{{Text: "git.example.com:*"}}}
	first, _ := newTenant(t, "first", "git.example.com:*")
	late, record := newTenant(t, "late", "git.example.com:*")
	for one, most := range map[*tenant.Tenant]int64{first: 0, late: 1000} {
		compiled, err := policy.Compile(policy.Spec{Rules: rules, Steps: []policy.StepSpec{{Rules: rules, MaxUpload: most}}})
		if err != nil {
			t.Fatal(err)
		}
		one.Policy = compiled
	}
	c := &crew{step: &step.Step{Step: event.Step{ID: "s1"}}, members: []member{newMember(first, policy.Step{})}}
	c.step.Scope = c.scope()
	c.begin()
	sent := func(port uint16, n int64) event.Record {
		return event.Record{Kind: event.KindConn, Conn: &event.Conn{
			Step: "s1", Protocol: "tcp", Name: "git.example.com", OrigName: "git.example.com", Verdict: event.Allowed,
			Orig: netip.AddrPortFrom(netip.MustParseAddr("198.18.0.5"), port), Port: port, Up: n,
		}}
	}
	see := func(event.Record) {}
	c.tell(sent(1, 600), see)
	c.join(late, policy.Step{}, func() evidence.Run { return evidence.Run{Conns: []event.Conn{*sent(1, 600).Conn}} })
	c.tell(sent(2, 300), see)
	c.tell(sent(3, 200), see)
	if err := late.Journal.Seal(sealed); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(text)) {
		var r struct {
			Kind string
			Conn struct{ Verdict, Reason string }
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		if r.Kind == "conn" {
			got = append(got, strings.TrimSpace(r.Conn.Verdict+" "+r.Conn.Reason))
		}
	}
	if want := "allowed, allowed, blocked upload-budget"; strings.Join(got, ", ") != want {
		t.Errorf("%q, want %q:\n%s", got, want, text)
	}
}

// What a record says of a command can be read back: one that has a control byte
// is not one that spells it out.
func TestRecordedCommand(t *testing.T) {
	for _, command := range []string{"printf '\\x1b[0m'", "printf '\x1b[0m'", `sed 's/\\x5c//'`, "a\n\tb\\\nc", "\xe2\x9c\x93 \\xe2\\x9c\\x93"} {
		one, record := newTenant(t, "one", "git.example.com:*")
		c := &crew{step: &step.Step{Step: event.Step{ID: "s1", Command: command}}, members: []member{newMember(one, policy.Step{})}}
		c.begin()
		c.end(event.Step{ID: "s1", Command: command}, nil, nil)
		if err := one.Journal.Seal(sealed); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(text)) {
			var r event.Record
			if err := json.Unmarshal([]byte(line), &r); err != nil {
				t.Fatal(err)
			}
			if r.Step == nil {
				continue
			}
			n++
			if got, err := event.Unescape(r.Step.Command); err != nil || got != command {
				t.Errorf("%q is read back as %q (%v)", command, got, err)
			}
		}
		if n != 2 || c.step.Command != command {
			t.Errorf("%d records of %q, which is %q now", n, command, c.step.Command)
		}
	}
}
