package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// RULE-07, RULE-16: wide rules work, and are called out.
func TestWarnings(t *testing.T) {
	p := compiled(t, Spec{
		Rules: RuleTexts{
			HTTPS: texts("h", "*", "**:*", "*.test", "*.a.test", "~example.test:443", `~example\.test:443`, `~.*\.a\.test:443`, "a.test"),
			IP:    texts("i", "0.0.0.0/0:443", "10.0.0.0/8:1", "[2000::/3]:443", "192.0.2.1:*"),
		},
		KnownBlocked: texts("b", "**"),
		Steps:        []StepSpec{{Pos: "s1", Run: "x"}, {Pos: "s2"}, {Pos: "s3", Run: "y"}},
		Builder:      &RuleTexts{TCP: texts("t", "**.org:22")},
	})
	var got []string
	for _, w := range p.Warnings() {
		if w.Hint() == "" {
			t.Errorf("no hint: %v", w)
		}
		got = append(got, w.Error())
	}
	want := []string{
		"s3: an entry before this one selects every step",
		`h: rule "*": allows every name`,
		`h: rule "**:*": allows every name`,
		`h: rule "**:*": allows every port`,
		`h: rule "*.test": allows a whole top-level domain`,
		`h: rule "~example.test:443": a dot in a regex matches any character`,
		`i: rule "0.0.0.0/0:443": allows a very large network`,
		`i: rule "[2000::/3]:443": allows a very large network`,
		`i: rule "192.0.2.1:*": allows every port`,
		`t: rule "**.org:22": allows a whole top-level domain`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Match alone, without a Scope to look at the target first, is as careful.
func TestMatchPortZero(t *testing.T) {
	for _, text := range []string{"a.test:*", "~.*"} {
		r, err := Parse(HTTPSRules, Text{Text: text})
		if err != nil {
			t.Fatal(err)
		}
		if r.Match(Target{Protocol: TLS, Name: "a.test"}) || !r.Match(Target{Protocol: TLS, Name: "a.test", Port: 1}) {
			t.Errorf("%s: port 0", text)
		}
	}
}
