package explain_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/explain"
	"github.com/buildcage/buildcage/internal/policy"
)

const file = `version: 1
allowed_https_rules:
  - pypi.org
  - "*.example.com:8443"
allowed_tcp_rules: [github.com:22, db.example.com:443]
allowed_ip_rules: ["192.0.2.10:443", "10.1.0.0/16:5432", "127.0.0.1:80"]
known_blocked_rules: [telemetry.example.com]
allow_private: [10.2.0.0/16]
steps:
  - run: "npm rebuild*"
    network: none
  - run: "npm ci*"
    stage: deps
    allowed_https_rules: [npm.example.com]
`

func TestOf(t *testing.T) {
	npm := &policy.Step{Command: "npm ci --foo", Stage: "deps"}
	for _, tc := range []struct {
		target, protocol string
		step             *policy.Step
		allowed          bool
		rule, pos, add   string
		why              string
	}{
		{target: "pypi.org", allowed: true, rule: "pypi.org", pos: "buildcage.yaml:3:5", why: "allowed_https_rules of the top level"},
		{target: "https://PyPI.org/simple/", allowed: true, rule: "pypi.org", pos: "buildcage.yaml:3:5"},
		{target: "pypi.org:80", add: "allowed_http_rules: pypi.org:80", why: "no rule of the top level"},
		{target: "a.example.com:8443", allowed: true, rule: "*.example.com:8443", pos: "buildcage.yaml:4:5"},
		{target: "a.example.com", add: "allowed_https_rules: a.example.com:443"},
		{target: "db.example.com", allowed: true, rule: "db.example.com:443", pos: "buildcage.yaml:5:36", why: "allowed_tcp_rules"},
		{target: "github.com:22", protocol: "tcp", allowed: true, rule: "github.com:22", pos: "buildcage.yaml:5:21"},
		{target: "telemetry.example.com", rule: "telemetry.example.com", pos: "buildcage.yaml:7:23", why: "known_blocked_rules refuses it"},
		{target: "192.0.2.10:443", allowed: true, rule: "192.0.2.10:443", pos: "buildcage.yaml:6:20"},
		{target: "192.0.2.11:443", add: "allowed_ip_rules: 192.0.2.11:443"},
		{target: "[2001:db8::1]:443", add: `allowed_ip_rules: "[2001:db8::1]:443"`},
		{target: "127.0.0.1:80", why: "the address is guarded"},
		{target: "169.254.169.254:80", why: "the address is guarded"},
		{target: "npm.example.com", step: npm, allowed: true, rule: "npm.example.com", pos: "buildcage.yaml:14:27", why: "steps[1] (run: npm ci*, stage: deps)"},
		{target: "pypi.org", step: npm, add: "allowed_https_rules: pypi.org:443", pos: "buildcage.yaml:12:5", why: "steps[1]"},
		{target: "pypi.org", step: &policy.Step{Command: "npm rebuild"}, pos: "buildcage.yaml:10:5", why: "network: none"},
		// The stage is not known: the entry counts, and so does the top level.
		{target: "npm.example.com", step: &policy.Step{Command: "npm ci"}, add: "allowed_https_rules: npm.example.com:443"},
		{target: "evil.example.com", step: &policy.Step{Builder: true}, allowed: true, why: "the builder is not restricted"},
	} {
		t.Run(tc.target, func(t *testing.T) {
			a := ask(t, file, tc.target, tc.protocol, tc.step)
			add := ""
			if a.Add != nil {
				add = a.Add.Line
			}
			got := []any{a.Allowed, a.Rule, add}
			if diff := cmp.Diff([]any{tc.allowed, tc.rule, tc.add}, got); diff != "" {
				t.Errorf("(-want +got):\n%s\n%+v", diff, a)
			}
			if tc.pos != "" && a.Pos != tc.pos {
				t.Errorf("at %q, want %q", a.Pos, tc.pos)
			}
			if !strings.Contains(a.Why, tc.why) {
				t.Errorf("why %q, want %q", a.Why, tc.why)
			}
		})
	}
}

func ask(t *testing.T, text, target, protocol string, step *policy.Step) *explain.Answer {
	t.Helper()
	cfg, err := config.Load("buildcage.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := explain.Parse(target, protocol)
	if err != nil {
		t.Fatal(err)
	}
	a, err := explain.Of(cfg.Spec, explain.Question{Target: parsed, Step: step})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestOfEntries(t *testing.T) {
	a := ask(t, file, "pypi.org", "", nil)
	var got []string
	for _, e := range a.Steps {
		got = append(got, e.Selector)
	}
	if diff := cmp.Diff([]string{"run: npm rebuild*", "run: npm ci*, stage: deps"}, got); diff != "" {
		t.Error(diff)
	}
	a = ask(t, file, "npm.example.com", "", nil)
	if len(a.Steps) != 1 || !a.Steps[0].Allowed || a.Steps[0].RulePos != "buildcage.yaml:14:27" {
		t.Errorf("%+v, want the one entry that allows it", a.Steps)
	}
}

// TestAddition wants what Of proposes to be enough.
func TestAddition(t *testing.T) {
	for _, target := range []string{"new.example.com", "new.example.com:80", "192.0.2.77:1", "[2001:db8::7]:53", "tcp://git.example.com:9418"} {
		a := ask(t, "version: 1\n", target, "", nil)
		if a.Add == nil {
			t.Fatalf("%s: nothing to add", target)
		}
		if again := ask(t, "version: 1\n"+a.Add.Line+"\n", target, "", nil); !again.Allowed {
			t.Errorf("%s: %q does not allow it: %+v", target, a.Add.Line, again)
		}
	}
}

func TestAudit(t *testing.T) {
	a := ask(t, "version: 1\nmode: audit\n", "pypi.org", "", nil)
	if a.Allowed || len(a.Notes) != 1 || !strings.Contains(a.Notes[0], "mode: audit") {
		t.Errorf("%+v, want the rules' answer and a note", a)
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ text, protocol, want string }{
		{"", "", "neither a host name"},
		{"a b", "", "neither a host name"},
		{"pypi.org:", "", "empty port"},
		{"pypi.org:0", "", "port \"0\""},
		{"pypi.org:70000", "", "port \"70000\""},
		{"2001:db8::1", "", "brackets"},
		{"[2001:db8::1", "", "closing bracket"},
		{"[2001:db8::1]443", "", "no port behind"},
		{"192.0.2.1", "", "no port"},
		{"192.0.2.1:443", "https", "judged by IP rules"},
		{"0x7f.1:80", "", "neither a host name"},
		{"pypi.org:443", "ip", "is not an address"},
		{"pypi.org:443", "quic", "unknown protocol"},
		{"git.example.com", "tcp", "no port"},
	} {
		_, err := explain.Parse(tc.text, tc.protocol)
		var e *explain.Error
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, want %q", tc.text, err, tc.want)
			continue
		}
		if !errors.As(err, &e) || e.Hint() == "" {
			t.Errorf("%q: no hint", tc.text)
		}
	}
}
