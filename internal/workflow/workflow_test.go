package workflow

import (
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/config"
)

func TestAnchored(t *testing.T) {
	for regex, want := range map[string]bool{
		`^a\.test:443$`:          true,
		`^a\.test:(443|8443)$`:   true,
		`^(a|b)\.test:(1|2)$`:    true,
		`a\.test:443`:            false,
		`^a\.test:443`:           false,
		`^a\.test:443\$`:         false,
		`^a\.test:1$|b\.test:2`:  false,
		`^a\.test:1|^b\.test:2$`: false,
	} {
		if got := anchored(regex); got != want {
			t.Errorf("%s: %v, want %v", regex, got, want)
		}
	}
}

func TestImport(t *testing.T) {
	for name, tc := range map[string]struct {
		in    string
		rules string
		note  string
	}{
		"by the name of the action": {"jobs: {a: {steps: [{uses: dash14/buildcage@v1, with: {allowed_https_rules: 'a.test:443'}}]}}", "a.test:443", ""},
		"by its inputs":             {"jobs: {a: {steps: [{uses: ./x, with: {allowed_https_rules: 'a.test:443'}}]}}", "a.test:443", ""},
		"a composite action":        {"runs: {steps: [{uses: ./x, with: {allowed_https_rules: 'a.test:443'}}]}", "a.test:443", ""},
		"two that agree":            {"jobs: {a: {steps: [{uses: ./x, with: {allowed_https_rules: 'a.test:1'}}]}, b: {steps: [{uses: ./x, with: {allowed_https_rules: 'a.test:1'}}]}}", "a.test:1", ""},
		"an expression":             {"jobs: {a: {steps: [{uses: ./x, with: {proxy_mode: '${{ x }}', allowed_https_rules: 'a.test:1'}}]}}", "a.test:1", "proxy_mode is not carried over"},
		"a network with all ports":  {"jobs: {a: {steps: [{uses: ./x, with: {allowed_ip_rules: '192.0.*.*:*'}}]}}", "192.0.0.0/16:*", "written as a network"},
		"an address with all ports": {"jobs: {a: {steps: [{uses: ./x, with: {allowed_ip_rules: '192.0.2.1:*'}}]}}", "192.0.2.1:*", ""},
		"comments":                  {"runs:\n  steps:\n  - uses: ./x\n    with:\n      allowed_https_rules: |\n        # the index\n        a.test:1 #and files\n        b.test:1\n", "a.test:1 b.test:1", ""},
		"comments in one line":      {"runs:\n  steps:\n  - uses: ./x\n    with:\n      allowed_https_rules: >-\n        a.test:1 # and\n        b.test:1\n", "a.test:1", "rule \"#\""},
		"hostile text":              {"jobs: {a: {steps: [{uses: ./x, with: {allowed_https_rules: \"a.test:1 \\\"x\\\\n#\\u202e\"}}]}}", "a.test:1", "not carried over"},
	} {
		t.Run(name, func(t *testing.T) {
			im, err := Import("w\n.yml", []byte(tc.in), "")
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := config.Load("p", im.Text)
			if err != nil {
				t.Fatalf("%v\n%s", err, im.Text)
			}
			var rules, notes []string
			for _, r := range append(cfg.Spec.Rules.HTTPS, cfg.Spec.Rules.IP...) {
				rules = append(rules, r.Text)
			}
			for _, n := range im.Notes {
				notes = append(notes, n.Error())
				if n.Hint() == "" {
					t.Errorf("no hint: %v", n)
				}
			}
			if got := strings.Join(rules, " "); got != tc.rules {
				t.Errorf("rules %q, want %q", got, tc.rules)
			}
			if got := strings.Join(notes, "\n"); !strings.Contains(got, tc.note) || (tc.note == "") != (got == "") {
				t.Errorf("notes %q, want %q", got, tc.note)
			}
		})
	}
}
