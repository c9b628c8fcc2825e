package report

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// What is suggested for a step allows it all that it did, and nothing that
// another step did, whatever characters its command has.
func TestSuggestedStepsReplay(t *testing.T) {
	commands := []string{
		"npm ci", "npm  ci", `printf 'a\n' | sh`, "cat <<E\nx\ty\nE", "rm -rf /x/*; ls ??", `echo -e '\x1b[1m' "$X"`, "echo \x1b", "echo ü “q”", "echo \xff",
		strings.Repeat("long ", 1000) + "a", strings.Repeat("long ", 1000) + "b", "ab*", "abc", "npm ci",
	}
	for _, journal := range []func(string) string{event.Escape, func(s string) string { return s }} {
		var records []event.Record
		for i, c := range commands {
			id := fmt.Sprintf("s%d", i)
			records = append(records, event.Record{Step: &event.Step{ID: id, Command: journal(c)}},
				tls(id, fmt.Sprintf("host%d.example.com", i), event.Audited, 1, 1))
		}
		r := scenario{input: Input{Mode: "audit"}, records: records}.run(t)
		var spec policy.Spec
		for _, s := range r.Suggested.Steps {
			spec.Steps = append(spec.Steps, policy.StepSpec{Run: s.Selector, Rules: s.Texts()})
		}
		p, err := policy.Compile(spec)
		if err != nil {
			t.Fatal(err)
		}
		allowed := func(command string, host int) bool {
			return p.For(policy.Step{Command: command}).Judge(policy.Target{Protocol: policy.TLS, Name: fmt.Sprintf("host%d.example.com", host), Port: 443}).Allowed
		}
		for i, c := range commands {
			if !allowed(c, i) {
				t.Errorf("%.40q may not do what it did; suggested %q", c, r.Suggested.Steps)
			}
		}
		if allowed("abc", 0) || allowed("npm ci", 2) || allowed("npm test", 0) || allowed("rm -rf /x/yy; ls ab", 4) {
			t.Error("a step may do what another one did")
		}
	}
}

// Rules go where they help: into the entry that decides for the step.
func TestSuggestedPlaces(t *testing.T) {
	p, err := policy.Compile(policy.Spec{
		Rules: policy.RuleTexts{HTTPS: rule("top.example.com")},
		Steps: []policy.StepSpec{
			{Run: "silent*", Network: "none"}, {Pos: "f:1:1", Run: "npm *"},
			{Pos: "f:2:1", Stage: "deps", Rules: policy.RuleTexts{HTTPS: rule("both.example.com")}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	in := scenario{input: Input{Mode: "audit"}, records: join(
		step("s1", "npm ci", "", 1), tls("s1", "a.example.com", event.Audited, 0, 0),
		step("s2", "make", "deps", 2), tls("s2", "b.example.com", event.Audited, 0, 0), tls("s2", "both.example.com", event.Allowed, 0, 0),
		step("s3", "make", "build", 3), tls("s3", "c.example.com", event.Audited, 0, 0), tls("s3", "top.example.com", event.Allowed, 0, 0),
		step("s4", "make it", "", 4), tls("s4", "both.example.com", event.Audited, 0, 0), // stage unknown
		step("s5", "silent", "", 5), tls("s5", "d.example.com", event.Blocked, 0, 0),
		tls("unknown", "e.example.com", event.Blocked, 0, 0),
	)}.build(t)
	in.Policy = p
	got := Build(in).Suggested
	https := func(names ...string) Lists {
		l := Lists{HTTP: []string{}, TCP: []string{}, IP: []string{}}
		for _, n := range names {
			l.HTTPS = append(l.HTTPS, n+".example.com:443")
		}
		return l
	}
	want := Suggested{
		Lists: https("both", "c", "e"), AllowPrivate: []string{}, Builder: Lists{HTTPS: []string{}, HTTP: []string{}, TCP: []string{}, IP: []string{}},
		Entries: []EntryRules{{Entry: 1, Pos: "f:1:1", Lists: https("a")}, {Entry: 2, Pos: "f:2:1", Lists: https("b")}},
		Steps: []StepRules{
			{Run: "make", Selector: "make", Steps: []string{"s3"}, Where: []string{"Dockerfile:3, stage build"}, Lists: https("c", "top")},
			{Run: "make it", Selector: "make it", Steps: []string{"s4"}, Where: []string{"Dockerfile:4"}, Lists: https("both")},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	places := Build(in).Allowlist().Entries
	if len(places) != 2 || places[1].HTTPS[0].Text != "a.example.com:443" {
		t.Errorf("allowlist has %v", places)
	}
}
