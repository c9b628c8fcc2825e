package cli

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/runner"
)

// What is allowed for good stands where the step takes its rules from, and
// nothing else does: neither what was allowed once, nor what was only refused.
func TestWriteAsked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "buildcage.yaml")
	before := "version: 1\nsteps:\n  - run: \"npm ci*\" # install\n    allowed_https_rules:\n      - npm.example.com\n"
	if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
		t.Fatal(err)
	}
	tls := func(step, name string, v event.Verdict, flags ...string) event.Record {
		c := &event.Conn{Step: step, Protocol: "tls", Name: name, Port: 443, Verdict: v, Flags: flags}
		if v == event.Allowed {
			c.Rule, c.RulePos = flagAsked, "--ask"
		} else {
			c.Reason = event.NotAllowed
		}
		return event.Record{Time: time.Now(), Kind: event.KindConn, Conn: c}
	}
	records := []event.Record{
		{Kind: event.KindStep, Step: &event.Step{ID: "s1", Command: "npm ci", Name: "[1/2] RUN npm ci"}},
		{Kind: event.KindStep, Step: &event.Step{ID: "s2", Command: "make", Name: "[2/2] RUN make"}},
		tls("s1", "a.example.com", event.Allowed, flagAsked),
		tls("s1", "once.example.com", event.Allowed, flagAsked),
		tls("s1", "denied.example.com", event.Blocked, flagAsked),
		tls("s2", "b.example.com", event.Allowed, flagAsked),
		tls("s2", "a.example.com", event.Allowed, flagAsked),
		tls("s2", "never.example.com", event.Blocked),
	}
	question := func(step, name string) contract.Question {
		return contract.Question{Step: step, To: name + ":443", List: "allowed_https_rules", Rule: name + ":443"}
	}
	b := &build{app: &app{streams: standard()}, asker: &asker{
		file:  &target{path: path, file: path, replace: true, mode: 0o600},
		write: []contract.Question{question("s1", "a.example.com"), question("s1", "denied.example.com"), question("s2", "b.example.com")},
	}}
	if err := b.writeAsked(&runner.Result{Records: records}); err != nil {
		t.Fatal(err)
	}
	want := "version: 1\nsteps:\n  - run: \"npm ci*\" # install\n    allowed_https_rules:\n      - a.example.com:443\n      - npm.example.com\nallowed_https_rules:\n  - b.example.com:443\n"
	if diff := cmp.Diff(want, read(t, path)); diff != "" {
		t.Errorf("the policy (-want +got):\n%s", diff)
	}
}
