package report

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
)

func TestProcessOf(t *testing.T) {
	chain := []string{"npm ci", "node", "sh", "node postinstall.js"}
	for _, tc := range []struct {
		p    *event.Process
		want string
	}{
		{nil, ""},
		{&event.Process{}, ""},
		{&event.Process{Exe: "/usr/bin/node"}, "/usr/bin/node"},
		{&event.Process{Exe: "/usr/bin/node", Chain: chain}, "npm ci → node → sh → node postinstall.js"},
		{&event.Process{Gone: true, Note: "closed"}, "(gone)"},
		{&event.Process{Gone: true, Chain: chain[:2]}, "npm ci → node → (gone)"},
		{&event.Process{Chain: chain[:1], Note: "shared by 2 processes"}, "npm ci (shared by 2 processes)"},
		{&event.Process{Note: "not looked up in time"}, "(unknown: not looked up in time)"},
	} {
		if got := processOf(tc.p); got != tc.want {
			t.Errorf("%+v: %q, want %q", tc.p, got, tc.want)
		}
	}
}

func TestProcessLines(t *testing.T) {
	long := "npm ci → node → sh → node postinstall.js"
	for width, want := range map[int]string{
		40: long, 39: "npm ci → … → sh → node postinstall.js", 36: "npm ci → … → node postinstall.js", 20: "npm ci → …install.js",
	} {
		if got := processLine(long, width); got != want {
			t.Errorf("%d: %q, want %q", width, got, want)
		}
	}
	got := processLines([]string{"a", "b", "c", "d", "e", "f"}, 80)
	if diff := cmp.Diff([]string{"a", "b", "c", "d", "and 2 other processes"}, got); diff != "" {
		t.Error(diff)
	}
}

// What a process calls itself can't look like a chain.
func TestForgedChain(t *testing.T) {
	r := scenario{input: Input{Mode: "restrict"}, records: []event.Record{
		{Conn: &event.Conn{Step: "s1", Protocol: "tls", Name: "x.example.com", Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed,
			Process: &event.Process{Chain: []string{"sh", "a → b", "::error::x"}}}},
	}}.run(t)
	if want := `sh → a \xe2\x86\x92 b → ::error::x`; r.Destinations[0].Processes[0] != want {
		t.Errorf("%q, want %q", r.Destinations[0].Processes[0], want)
	}
	var text, doc bytes.Buffer
	if err := Text(&text, r, Options{}); err != nil {
		t.Fatal(err)
	}
	if err := JSON(&doc, r); err != nil {
		t.Fatal(err)
	}
	if want := `by sh → a \xe2\x86\x92 b → \x3a:error::x`; !strings.Contains(text.String(), want) {
		t.Errorf("no %q in\n%s", want, text.String())
	}
	if !event.Printable(strings.ReplaceAll(doc.String(), "\n", "")) || !strings.Contains(doc.String(), `sh \u2192 a`) {
		t.Errorf("not ASCII:\n%s", doc.String())
	}
}
