package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/report"
)

func TestSeenBy(t *testing.T) {
	day := report.Period{Last: time.Date(2026, 1, 2, 23, 0, 0, 0, time.UTC)}
	r := &report.Report{
		Steps: []report.Step{{ID: "1", Command: "npm ci"}, {ID: "2", Command: strings.Repeat("x", 50)}},
		Destinations: []report.Destination{
			{Host: "a.test", Port: 443, Steps: []string{"1", "2"}, Verdict: event.Audited, Period: day},
			{Host: "2001:db8::1", Port: 53, Steps: []string{"2"}, Verdict: event.Audited, Period: day},
			{Host: "b.test", Port: 443, Steps: []string{event.BuilderStep}, Verdict: event.Allowed, Period: day},
			{Host: "evil.test", Port: 443, Steps: []string{"1"}, Verdict: event.Blocked, Period: day},
		},
	}
	want := map[string]string{
		"a.test:443":       "npm ci, 2026-01-02",
		"[2001:db8::1]:53": strings.Repeat("x", 40) + "..., 2026-01-02",
		"b.test:443":       "the builder, 2026-01-02",
	}
	if diff := cmp.Diff(want, seenBy(r)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// A policy that build does not find by itself has to be named to it.
func TestWritten(t *testing.T) {
	for path, want := range map[string]string{
		"buildcage.yaml":     "then: buildcage build",
		"app/buildcage.yaml": "then: buildcage build",
		"learned.yaml":       "then: buildcage build --config learned.yaml",
	} {
		if got := written(path); !strings.HasPrefix(got, "allowlist written to "+path+";") || !strings.HasSuffix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
