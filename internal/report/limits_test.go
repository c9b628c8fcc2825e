package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
)

// flood is a run in which one step was refused n destinations and asked for as
// many names.
func flood(t testing.TB, n int) *Report {
	t.Helper()
	records := []event.Record{step("s1", "npm ci", "deps", 12)}
	for i := range n {
		records = append(records, tls("s1", fmt.Sprintf("h%d.collector.example.net", i), event.Blocked, 0, 0),
			tls("s1", fmt.Sprintf("h%d.files.example.com", i), event.Allowed, 1<<20, 0))
		records = append(records, asked("s1", fmt.Sprintf("h%d.probe.example.org", i), "A")...)
	}
	return scenario{input: Input{Mode: "restrict"}, records: records}.run(t)
}

func render(t *testing.T, format string, r *Report, opts Options) string {
	t.Helper()
	var b bytes.Buffer
	if err := Write(&b, format, r, opts); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestGitHubLimits(t *testing.T) {
	out := render(t, FormatGitHub, flood(t, 30), Options{})
	for _, wrong := range readGitHub([]byte(out)) {
		t.Error(wrong)
	}
	for level, more := range map[string]string{"::error ": "::and 21 more: see the whole report\n", "::warning ": "::and 22 more: see the whole report\n"} {
		if n := strings.Count(out, level); n != annotationLimit {
			t.Errorf("%d of %q", n, level)
		}
		if !strings.Contains(out, more) {
			t.Errorf("no %q in\n%s", more, out)
		}
	}
	if !strings.HasSuffix(strings.TrimSpace(out), "48.3s") {
		t.Errorf("the run itself is not the last notice:\n%s", out)
	}
}

func TestMarkdownRoom(t *testing.T) {
	r := flood(t, 3_000)
	for _, room := range []int{0, 64 << 10, 4 << 10, 300} {
		want := room
		if room == 0 {
			want = SummaryLimit
		}
		out := render(t, FormatMarkdown, r, Options{Room: room})
		if len(out) > want || !strings.Contains(out, "3000 destinations refused") {
			t.Errorf("room %d: %d bytes", room, len(out))
		}
		if room > 1000 && (!strings.Contains(out, " more; all of them are in the JSON report") || strings.Count(out, "<details>") != strings.Count(out, "</details>")) {
			t.Errorf("room %d: it is not said what is left out:\n%.2000s", room, out)
		}
	}
	var b bytes.Buffer
	if err := Markdown(&b, r, Options{Room: 50}); err == nil || b.Len() > 0 {
		t.Errorf("50 bytes are enough for %q", b.String())
	}
}

func TestSARIFLimit(t *testing.T) {
	out := render(t, FormatSARIF, flood(t, 6_000), Options{})
	var doc sarifLog
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	if n := len(doc.Runs[0].Results); n != resultLimit || !strings.Contains(out, "7000 results are left out") {
		t.Errorf("%d results", n)
	}
}

func TestJUnitLimit(t *testing.T) {
	out := render(t, FormatJUnit, flood(t, 6_000), Options{})
	if n := strings.Count(out, "<testcase "); n != caseLimit+1 || !strings.Contains(out, "7000 cases are left out") {
		t.Errorf("%d cases", n)
	}
}

// Reasons are told in the words of the documentation.
func TestSentences(t *testing.T) {
	doc, err := os.ReadFile("../../docs/events.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "## Reasons")
	table, _, _ = strings.Cut(table, "\n## ")
	n := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 4 || !strings.Contains(cells[1], "`") {
			continue
		}
		n++
		reason := event.Reason(strings.Trim(cells[1], " `"))
		if want := strings.ReplaceAll(strings.TrimSpace(cells[2]), "`", ""); sentence(reason) != want {
			t.Errorf("%s: %q, documented as %q", reason, sentence(reason), want)
		}
	}
	if n < 20 {
		t.Errorf("%d reasons read", n)
	}
}
