package cli

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/report"
)

// The summary of a job is appended to, as far as there is room.
func TestJobSummary(t *testing.T) {
	dir := t.TempDir()
	summary := filepath.Join(dir, "summary.md")
	t.Setenv(summaryFile, summary)
	r := report.Build(report.Input{Records: ran(t, true).Records, Complete: true, Mode: "restrict"})
	var want bytes.Buffer
	if err := report.Markdown(&want, r, report.Options{}); err != nil {
		t.Fatal(err)
	}
	full := strings.Repeat("x", report.SummaryLimit-summaryRoom+1)
	for _, tc := range []struct{ name, before, after, warning string }{
		{"empty", "", "\n" + want.String(), ""},
		{"used", "# tests\nfine", "# tests\nfine\n" + want.String(), ""},
		{"full", full, full, "is full"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if err := os.WriteFile(summary, []byte(tc.before), 0o600); err != nil {
				t.Fatal(err)
			}
			errs, err := os.Create(filepath.Join(t.TempDir(), "err"))
			if err != nil {
				t.Fatal(err)
			}
			defer errs.Close()
			b := &build{app: &app{streams: &streams{in: os.Stdin, out: errs, err: errs}}}
			out, err := b.openReport("markdown")
			if err != nil {
				t.Fatal(err)
			}
			o := &outputs{reports: []output{out}, streams: b.streams}
			if err := o.report(r, true); err != nil {
				t.Fatal(err)
			}
			if got := contents(t, summary); got != tc.after {
				t.Errorf("%d bytes, want %d: %.300q", len(got), len(tc.after), got)
			}
			if told := contents(t, errs.Name()); !strings.Contains(told, tc.warning) || tc.warning == "" && told != "" {
				t.Errorf("stderr: %q", told)
			}
		})
	}
}

// Findings name the Dockerfile as the repository does.
func TestInRepository(t *testing.T) {
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	app := filepath.Join(root, "services", "app")
	if err := os.MkdirAll(app, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(app, "Dockerfile")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(app)
	for _, tc := range []struct{ workspace, name, want string }{
		{"", "Dockerfile", "Dockerfile"},
		{"", file, "Dockerfile"},
		{root, "Dockerfile", "services/app/Dockerfile"},
		{root, filepath.Join("..", "app", "Dockerfile"), "services/app/Dockerfile"},
		{filepath.Join(root, "elsewhere"), "Dockerfile", filepath.ToSlash(file)},
		{"", "stdin", ""},
		{"", "", ""},
		{"", ".", ""},
	} {
		t.Setenv("GITHUB_WORKSPACE", tc.workspace)
		if got := inRepository(tc.name); got != tc.want {
			t.Errorf("%q from %q: %q, want %q", tc.name, tc.workspace, got, tc.want)
		}
	}
}
