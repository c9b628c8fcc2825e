package report

import (
	"strings"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

// Every format says of a cached step when it was observed and what came of it.
func TestCached(t *testing.T) {
	at := time.Date(2026, 3, 2, 23, 6, 0, 0, time.UTC)
	for _, tc := range []struct {
		evidence *event.Evidence
		want     string
	}{
		{nil, "never observed: what it did is not known"},
		{&event.Evidence{Verdict: event.EvidenceMissing, Doubt: "it did more than is kept"}, "never observed: what it did is not known (it did more than is kept)"},
		{&event.Evidence{Verdict: event.EvidenceMissing, At: at, Doubt: "evidence was lost"}, "observed on 2026-03-02 23:06 UTC, but not all that it did is known (evidence was lost)"},
		{&event.Evidence{Verdict: event.EvidenceClean, At: at}, "observed on 2026-03-02 23:06 UTC: all of it is allowed today"},
		{&event.Evidence{Verdict: event.EvidenceViolates, At: at}, "observed on 2026-03-02 23:06 UTC: it did what today's policy refuses"},
	} {
		r := scenario{input: Input{Mode: "restrict"}, records: []event.Record{
			{Step: &event.Step{ID: "s1", Command: "make", Line: 3, Cached: true, Evidence: tc.evidence}},
		}}.run(t)
		for _, format := range Formats() {
			out := strings.NewReplacer("&#39;", "'", `\u0027`, "'").Replace(render(t, format, r, Options{Width: 120}))
			if format != FormatJSON && !strings.Contains(out, tc.want) {
				t.Errorf("%s doesn't say %q:\n%s", format, tc.want, out)
			}
		}
	}
}

// Every format says that the record is incomplete, and why.
func TestIncomplete(t *testing.T) {
	r := scenarios()["incomplete"].run(t)
	for _, format := range Formats() {
		out := render(t, format, r, Options{})
		for _, want := range []string{"ncomplete", event.ErrIncomplete.Error()} {
			if !strings.Contains(out, want) && (format != FormatJSON || !strings.Contains(out, `"complete": false`)) {
				t.Errorf("%s doesn't say %q:\n%s", format, want, out)
			}
		}
	}
}

// Every format says what was refused as expected, and that by itself fails nothing.
func TestExpected(t *testing.T) {
	r := scenario{input: Input{Mode: "restrict"}, records: []event.Record{
		step("s1", "make", "", 3),
		{Conn: &event.Conn{Step: "s1", Protocol: "tls", Name: "telemetry.example.com", Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed, Rule: "telemetry.example.com", Expected: true}},
	}}.run(t)
	for format, wants := range map[string][]string{
		FormatText:     {"nothing refused but what was expected", "expected: not-allowed by telemetry.example.com"},
		FormatJSON:     {`"outcome": "clean"`, `"expected": true`},
		FormatMarkdown: {"✓ buildcage", "`expected: not-allowed by telemetry.example.com`"},
		FormatSARIF:    {`"level": "note"`, `"justification": "known_blocked_rules: telemetry.example.com"`},
		FormatJUnit:    {`failures="0"`, "<system-out>refused 1×: expected: not-allowed by telemetry.example.com"},
		FormatHTML:     {`class="good"`, "expected: not-allowed by telemetry.example.com"},
		FormatGitHub:   {"::notice title=buildcage%3A clean::", "::notice file=Dockerfile,line=3,title=buildcage%3A refused%2C as expected::"},
	} {
		out := render(t, format, r, Options{Width: 120})
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("%s doesn't say %q:\n%s", format, want, out)
			}
		}
		if strings.Contains(out, `"level": "error"`) || strings.Contains(out, "<failure") || strings.Contains(out, "::error") {
			t.Errorf("%s makes it a failure:\n%s", format, out)
		}
	}
}
