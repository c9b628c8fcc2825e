package policy

import (
	"math/rand/v2"
	"strings"
	"testing"
)

func TestCovers(t *testing.T) {
	for _, tc := range []struct {
		list List
		r, o string
		want bool
	}{
		{HTTPSRules, "a.test", "a.test:443", true},
		{HTTPSRules, "A.test", "a.test:443", true},
		{HTTPSRules, "a.test:443", "a.test:{443,80}", false},
		{HTTPSRules, "a.test:*", "a.test:{443,80}", true},
		{HTTPSRules, "a.test:1-1000", "a.test:{80,443}", true},
		{HTTPSRules, "a.test:{80,443}", "a.test:80-443", false},
		{HTTPSRules, "*.a.test", "b.a.test", true},
		{HTTPSRules, "*.a.test", "b.c.a.test", false},
		{HTTPSRules, "*.a.test", "a.test", false},
		{HTTPSRules, "**.a.test", "*.a.test", true},
		{HTTPSRules, "**.a.test", "*.b.a.test", true},
		{HTTPSRules, "**.a.test", "x-*.a.test", true},
		{HTTPSRules, "*.a.test", "x-?.a.test", true},
		{HTTPSRules, "*.a.test", "**.a.test", false},
		{HTTPSRules, "*.a.test", "x.*.a.test", false},
		{HTTPSRules, "**.a.test", "*.ba.test", false},
		{HTTPSRules, "**", "*.a.test", true},
		{HTTPSRules, "*", "*.a.test", false},
		{HTTPSRules, `~.*\.a\.test:443`, "b.a.test", true},
		{HTTPSRules, `~.*\.a\.test:443`, "b.a.test:{443,80}", false},
		{HTTPSRules, `~.*`, "*.a.test", false}, // true, but hard to see
		{HTTPSRules, `~.*`, `~.*`, true},
		{IPRules, "10.0.0.0/8:443", "10.1.0.0/16:443", true},
		{IPRules, "10.1.0.0/16:443", "10.0.0.0/8:443", false},
		{IPRules, "[2001:db8::/32]:*", "[2001:db8::1]:1", true},
		{IPRules, "0.0.0.0/0:443", "[2001:db8::1]:443", false},
		{PrivateRules, "10.0.0.0/8", "10.1.0.0/16", true},
	} {
		r, o := parsedRule(t, tc.list, tc.r), parsedRule(t, tc.list, tc.o)
		if got := r.Covers(o); got != tc.want {
			t.Errorf("%s covers %s: %v, want %v", tc.r, tc.o, got, tc.want)
		}
	}
}

func parsedRule(t *testing.T, l List, text string) *Rule {
	t.Helper()
	r, err := Parse(l, Text{Text: text})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestCoversHolds: what the covered rule matches, the covering one matches too.
func TestCoversHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) string { return from[rng.IntN(len(from))] }
	pattern := func() string {
		labels := make([]string, 1+rng.IntN(3))
		for i := range labels {
			labels[i] = pick("a", "b", "*", "**", "a*", "?", "ab")
		}
		return strings.Join(labels, ".") + pick("", ":443", ":*", ":80-443", ":{443,444}")
	}
	var names []string
	for _, x := range []string{"a", "b", "ab", "abc"} {
		names = append(names, x)
		for _, y := range []string{"a", "b", "ab"} {
			names = append(names, x+"."+y, x+"."+y+".a", x+"."+y+".b.ab")
		}
	}
	covered := 0
	for range 20000 {
		r, o := parsedRule(t, HTTPSRules, pattern()), parsedRule(t, HTTPSRules, pattern())
		if !r.Covers(o) {
			continue
		}
		covered++
		for _, name := range names {
			for _, port := range []uint16{80, 443, 444, 9} {
				target := Target{Protocol: TLS, Name: name, Port: port}
				if o.Match(target) && !r.Match(target) {
					t.Fatalf("%s covers %s, but only the latter matches %s", r, o, target)
				}
			}
		}
	}
	if covered < 100 {
		t.Errorf("only %d pairs covered, the test says little", covered)
	}
}
