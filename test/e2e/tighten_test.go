package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTighten: a bloated file ends smaller and green; a proposal that is too
// small is red, and the file stays.
func TestTighten(t *testing.T) {
	engine(t)
	dir := project(t, ecosystems()[0].files(t))
	path := filepath.Join(dir, "buildcage.yaml")
	const bloated = `version: 1
# mirrors
allowed_http_rules: ["**:*"]
allowed_https_rules: ["**", pypi.org]
`
	if err := os.WriteFile(path, []byte(bloated), 0o644); err != nil {
		t.Fatal(err)
	}
	report := filepath.Join(dir, "report.json")
	run(t, dir, "build", "--no-cache", "--output", "type=cacheonly", "--report", "json="+report, ".").want(t, 0)
	run(t, dir, "tighten", "--prove", "--write", report).want(t, 0)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "*") || strings.Contains(string(text), "pypi.org") || !strings.Contains(string(text), "# mirrors") || !strings.Contains(string(text), ":80") {
		t.Errorf("not what the build used:\n%s", text)
	}
	empty := filepath.Join(dir, "empty.json")
	const nothing = `{"schema": "buildcage.report/v1", "complete": true, "outcome": "clean", "steps": [{"id": "1", "command": "x"}], "destinations": []}`
	if err := os.WriteFile(empty, []byte(nothing), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, dir, "tighten", "--prove", "--write", empty)
	if r.code != 1 && r.code != 3 || !strings.Contains(r.stderr, "buildcage: red: ") {
		t.Errorf("exit %d, want a red proof\n%s", r.code, tail(r.stderr))
	}
	if again, err := os.ReadFile(path); err != nil || string(again) != string(text) {
		t.Errorf("a proposal that is not enough was written (%v):\n%s", err, again)
	}
}
