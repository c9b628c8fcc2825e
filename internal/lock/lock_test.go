package lock

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
)

func sample() *report.Report {
	dest := func(host string, port uint16, protocol string, verdict event.Verdict, steps ...string) report.Destination {
		return report.Destination{Host: host, Port: port, Protocol: protocol, Verdict: verdict, Steps: steps}
	}
	return &report.Report{
		Steps: []report.Step{
			{ID: "2", Command: "npm ci", Stage: "deps"},
			{ID: "1", Command: `echo \x0a "a" \ b`},
			{ID: "3", Command: "cached", Cached: true},
		},
		Destinations: []report.Destination{
			dest("npm.example.com", 443, "tls", event.Allowed, "2", "1"),
			dest("npm.example.com", 443, "tls", event.Failed, "2"),
			dest("a.example.com", 80, "http", event.Audited, "2"),
			dest("2001:db8::1", 53, "ip", event.Allowed, "2"),
			dest("evil.example.com", 443, "tls", event.Blocked, "2"),
			dest("registry.example.com", 443, "tls", event.Allowed, "builder"),
		},
	}
}

const text = header + `steps:
  - run: "echo \\x0a \"a\" \\ b"
    reached:
      - "npm.example.com:443 https"
  - run: "npm ci"
    stage: "deps"
    reached:
      - "[2001:db8::1]:53 ip"
      - "a.example.com:80 http"
      - "npm.example.com:443 https"
`

func TestEncode(t *testing.T) {
	l := Of(sample())
	if diff := cmp.Diff(text, string(l.Encode())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(l.Refused) != 1 || len(l.Builder) != 1 || len(l.Unknown) != 1 {
		t.Errorf("%+v", l)
	}
	back, err := Parse("buildcage.lock", l.Encode())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text, string(back.Encode())); diff != "" {
		t.Errorf("parsed and written again (-want +got):\n%s", diff)
	}
	empty := (&Lock{}).Encode()
	if _, err := Parse("l", empty); err != nil {
		t.Errorf("an empty lock: %v\n%s", err, empty)
	}
}

func TestPolicyStep(t *testing.T) {
	s, ok := Key{Run: `echo \x0a "a" \ b \x5c`}.PolicyStep()
	if want := "echo \n \"a\" \\ b \\"; !ok || s.Command != want {
		t.Errorf("%q, want %q", s.Command, want)
	}
	if _, ok := (Key{Run: `echo \... b`}).PolicyStep(); ok {
		t.Error("a cut command is known")
	}
}

func TestParseErrors(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"empty":           {"", "l:1:1: empty file"},
		"no version":      {"steps: []\n", "l:1:1: version missing"},
		"version":         {"version: 2\n", `l:1:10: version "2" is not supported`},
		"unknown key":     {"version: 1\nfoo: 1\n", `l:2:1: unknown key "foo"`},
		"duplicate key":   {"version: 1\nsteps: []\nsteps: []\n", `l:3:1: duplicate key "steps"`},
		"no run":          {"version: 1\nsteps: [{stage: a}]\n", "l:2:9: run missing"},
		"not a list":      {"version: 1\nsteps: a\n", "l:2:8: a list is expected here"},
		"alias":           {"version: 1\nsteps: [{run: &a b}, {run: *a}]\n", "l:2:15: text is expected here"},
		"destination":     {"version: 1\nsteps: [{run: a, reached: [b.test]}]\n", `l:2:28: "b.test" is not HOST:PORT PROTOCOL`},
		"protocol":        {"version: 1\nsteps: [{run: a, reached: ['b.test:1 quic']}]\n", `l:2:28: "b.test:1 quic" is not HOST:PORT PROTOCOL`},
		"twice":           {"version: 1\nsteps: [{run: a, reached: ['b.test:1 tcp', 'b.test:1 tcp']}]\n", "l:2:44: b.test:1 stands there twice"},
		"step twice":      {"version: 1\nsteps: [{run: a}, {run: a}]\n", `l:2:19: step "a" stands there twice`},
		"control":         {"version: 1\nsteps: [{run: \"\\e[31m\"}]\n", "l:2:15: a character that no lock has"},
		"second document": {"version: 1\n---\nversion: 1\n", "l: second document"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse("l", []byte(tc.text))
			var errs policy.Errors
			if !errors.As(err, &errs) || errs[0].Error() != tc.want || errs.Hint() == "" {
				t.Errorf("%v, want %s", err, tc.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(text)
	f.Add("version: 1\nsteps: [{run: a, reached: ['b.test:1 tcp']}]\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := Parse("l", []byte(text))
		if err != nil {
			return
		}
		once := l.Encode()
		again, err := Parse("l", once)
		if err != nil {
			t.Fatalf("what was written does not parse: %v\n%s", err, once)
		}
		if diff := cmp.Diff(string(once), string(again.Encode())); diff != "" {
			t.Errorf("written again it differs:\n%s", diff)
		}
	})
}
