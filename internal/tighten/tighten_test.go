package tighten

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
)

func reached(steps []report.Step, dests ...string) *report.Report {
	r := &report.Report{Complete: true, Outcome: report.Clean, Steps: steps}
	for _, d := range dests {
		var step, host, protocol string
		var port uint16
		if _, err := fmt.Sscan(strings.Replace(d, ":", " ", 1), &step, &host, &port, &protocol); err != nil {
			panic(err)
		}
		r.Destinations = append(r.Destinations, report.Destination{Host: host, Port: port, Protocol: protocol, Verdict: event.Allowed, Steps: []string{step}})
	}
	return r
}

func one(command string) []report.Step { return []report.Step{{ID: "1", Command: command, Line: 3}} }

func TestPropose(t *testing.T) {
	cached := one("x")
	cached[0].Cached = true
	for name, tc := range map[string]struct {
		in    string
		run   *report.Report
		rules string // of the lists, in order
	}{
		"all used":           {"allowed_https_rules: [a.test]", reached(one("x"), "1 a.test:443 tls"), "a.test"},
		"unused":             {"allowed_https_rules: [a.test, b.test]", reached(one("x"), "1 a.test:443 tls"), "a.test"},
		"wide":               {"allowed_https_rules: ['*.test']", reached(one("x"), "1 b.test:443 tls", "1 a.test:443 tls"), "a.test:443 b.test:443"},
		"every port":         {"allowed_https_rules: ['a.test:*']", reached(one("x"), "1 a.test:8443 tls"), "a.test:8443"},
		"regex":              {"allowed_https_rules: ['~.*']", reached(one("x"), "1 a.test:443 tls"), "a.test:443"},
		"exact wins":         {"allowed_https_rules: ['*.test', a.test]", reached(one("x"), "1 a.test:443 tls"), "a.test"},
		"network":            {"allowed_ip_rules: ['192.0.2.0/24:443', '[2001:db8::/32]:1']", reached(one("x"), "1 192.0.2.9:443 ip"), "192.0.2.9:443"},
		"tcp rule decides":   {"allowed_https_rules: [a.test]\nallowed_tcp_rules: ['a.test:443']", reached(one("x"), "1 a.test:443 tls"), "a.test a.test:443"},
		"nothing reached":    {"allowed_https_rules: [a.test]", reached(one("x")), ""},
		"cached, no witness": {"allowed_https_rules: ['*.test', a.test]", reached(cached), "*.test a.test"},
		"other section":      {"allowed_https_rules: [a.test]\nsteps: [{run: x, allowed_https_rules: [a.test, b.test]}]", reached(one("x"), "1 a.test:443 tls"), "a.test"},
		"entry without step": {"steps: [{run: y, allowed_https_rules: [b.test]}]", reached(one("x")), "b.test"},
		"entry by line":      {"steps: [{lines: 3, allowed_https_rules: [a.test, b.test]}]", reached(one("x"), "1 a.test:443 tls"), "a.test"},
		"stage not known":    {"allowed_https_rules: [a.test, b.test]\nsteps: [{stage: s, allowed_https_rules: [a.test, c.test]}]", reached(one("x"), "1 a.test:443 tls"), "a.test a.test c.test"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := Propose("f", []byte("version: 1\n"+tc.in+"\n"), []*report.Report{tc.run})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.rules, strings.Join(all(t, p.Text), " ")); diff != "" {
				t.Errorf("(-want +got):\n%s\n%s\n%v", diff, p.Text, p.Notes)
			}
		})
	}
}

// What is said of a rule is true of it: one that matched is not one that nothing used.
func TestWhy(t *testing.T) {
	const text = "version: 1\nallowed_https_rules: ['*.test', a.test, '**.example', b.example, b.example:443]\n"
	p, err := Propose("f", []byte(text), []*report.Report{reached(one("x"), "1 a.test:443 tls", "1 b.example:443 tls")})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, c := range p.Changes {
		got[c.Rule] = c.Why
	}
	want := map[string]string{
		"*.test": "other rules allow all that runs used it for", "**.example": "other rules allow all that runs used it for",
		"b.example:443": "another rule covers it",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// all are the rules of a file, section by section; https before tcp before ip.
func all(t *testing.T, text []byte) (rules []string) {
	t.Helper()
	cfg, err := config.Load("f", text)
	if err != nil {
		t.Fatal(err)
	}
	sections := []policy.RuleTexts{cfg.Spec.Rules}
	for _, s := range cfg.Spec.Steps {
		sections = append(sections, s.Rules)
	}
	for _, s := range sections {
		for _, l := range policy.AllowLists() {
			for _, text := range *s.Of(l) {
				rules = append(rules, text.Text)
			}
		}
	}
	return rules
}

// TestProposalHolds: what was used and allowed stays allowed, and every rule of
// a proposal is covered by one of the file.
func TestProposalHolds(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	hosts := []string{"a.test", "b.test", "x.a.test", "y.a.test", "c.example"}
	patterns := []string{"a.test", "b.test:443", "*.a.test", "**.test", "*.test:*", "~.*test:443", "c.example:{443,8443}", "unused.test"}
	for range 300 {
		var rules, used []string
		for _, p := range patterns {
			if rng.IntN(2) == 0 {
				rules = append(rules, p)
			}
		}
		for _, h := range hosts {
			if rng.IntN(2) == 0 {
				used = append(used, "1 "+h+":443 tls")
			}
		}
		text := "version: 1\nallowed_https_rules: [\"" + strings.Join(rules, `", "`) + "\"]\n"
		if len(rules) == 0 {
			continue
		}
		p, err := Propose("f", []byte(text), []*report.Report{reached(one("x"), used...)})
		if err != nil {
			t.Fatal(err)
		}
		before, after := scope(t, []byte(text)), scope(t, p.Text)
		for _, h := range hosts {
			target := policy.Target{Protocol: policy.TLS, Name: h, Port: 443}
			was, is := before.Match(target) != nil, after.Match(target) != nil
			if wanted := strings.Contains(strings.Join(used, " "), " "+h+":"); is && !was || was && wanted && !is {
				t.Fatalf("%s: used %v, was allowed %v, is now %v\n%s\n%s", h, wanted, was, is, text, p.Text)
			}
		}
	}
}

func scope(t *testing.T, text []byte) *policy.Scope {
	t.Helper()
	cfg, err := config.Load("f", text)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Compile(cfg.Spec)
	if err != nil {
		t.Fatal(err)
	}
	return p.For(policy.Step{Command: "x"})
}
