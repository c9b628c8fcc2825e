package cli

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
	"github.com/buildcage/buildcage/internal/runner"
)

// ran is a run as the runner returns it.
func ran(t *testing.T, end bool) *runner.Result {
	t.Helper()
	var b bytes.Buffer
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	enc := event.NewEncoder(&b, func() time.Time { at = at.Add(time.Second); return at })
	exit := 0
	for _, r := range []event.Record{
		{Start: &event.Start{Version: event.Version, RunID: "c0ffee", Mode: "restrict", Versions: map[string]string{"caged": "v1"}}},
		{Step: &event.Step{ID: "s1", Name: "[deps 2/2] RUN npm ci", Command: `npm ci # \x1b[2J <&> ::error::`, Stage: "deps"}},
		{Conn: &event.Conn{Step: "s1", Protocol: "tls", Name: "collector.example.net", Orig: netip.MustParseAddrPort("198.18.0.9:443"), Port: 443,
			Verdict: event.Blocked, Reason: event.NotAllowed, Process: &event.Process{Chain: []string{"sh", "npm", "node"}}}},
		{Source: &event.Source{Ref: "FROM node:22", Host: "registry-1.docker.io", Down: 9, Hosts: []string{"auth.docker.io:443", "registry-1.docker.io:443"}}},
		{Step: &event.Step{ID: "s1", Exit: &exit, Took: time.Second}},
		{End: &event.End{Reason: "sealed"}},
	} {
		if r.End != nil && !end {
			break
		}
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	records, err := event.ReadAll(&b)
	result := &runner.Result{RunID: "c0ffee", Records: records, Complete: err == nil, Built: true, Started: at.Add(5), Duration: 61 * time.Second}
	if err != nil {
		result.Problem = err.Error()
	}
	return result
}

// shell runs a command line and returns both streams and the exit code.
func shell(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	dir := t.TempDir()
	out, err := os.Create(filepath.Join(dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	errs, err := os.Create(filepath.Join(dir, "err"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	defer errs.Close()
	code = (&app{streams: &streams{in: os.Stdin, out: out, err: errs}}).run(context.Background(), args)
	return contents(t, out.Name()), contents(t, errs.Name()), code
}

func contents(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// A kept run is reported on as it was when it ended, in every format.
func TestKeptRun(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	for name, end := range map[string]bool{"complete": true, "incomplete": false} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("XDG_CACHE_HOME", t.TempDir())
			t.Setenv(historyVariable, "")
			result := ran(t, end)
			spec := policy.Spec{Mode: policy.Restrict, Steps: []policy.StepSpec{{Pos: "buildcage.yaml:3:5", Run: "npm *"}}}
			compiled, err := policy.Compile(spec)
			if err != nil {
				t.Fatal(err)
			}
			b := &build{app: &app{streams: standard()}, mode: policy.Restrict, policy: &policyFile{path: "buildcage.yaml", spec: spec, compiled: compiled}}
			in := report.Input{
				Records: result.Records, Complete: result.Complete, Problem: result.Problem, Mode: "restrict", Dockerfile: "app/Dockerfile", File: "app/Dockerfile",
				Lines: map[string]int{"s1": 12}, Config: "buildcage.yaml", Started: result.Started, Duration: result.Duration, Policy: compiled,
			}
			r := report.Build(in)
			b.keep(in, r, result)
			for _, format := range report.Formats() {
				var want bytes.Buffer
				if err := report.Write(&want, format, r, report.Options{Width: 100}); err != nil {
					t.Fatal(err)
				}
				got, stderr, code := shell(t, "report", "--format", format, "c0f")
				if diff := cmp.Diff(want.String(), got); diff != "" || code != 0 || stderr != "" {
					t.Errorf("%s: exit %d, %s (-then +now):\n%s", format, code, stderr, diff)
				}
			}
			for _, command := range []string{"report", "diff", "tighten"} {
				if got, _, code := shell(t, "__complete", command, ""); code != 0 || !strings.Contains(got, "c0ffee\t"+report.Headline(r)) {
					t.Errorf("%s does not complete the run: exit %d, %q", command, code, got)
				}
			}
			list, _, _ := shell(t, "report", "--list")
			if !strings.Contains(list, "c0ffee") || !strings.Contains(list, report.Headline(r)) {
				t.Errorf("list: %q", list)
			}
		})
	}
}

// What keeps a run from being kept is one line, and no more.
func TestKeepFails(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("XDG_CACHE_HOME", file)
	errs, err := os.Create(filepath.Join(t.TempDir(), "err"))
	if err != nil {
		t.Fatal(err)
	}
	defer errs.Close()
	b := &build{app: &app{streams: &streams{out: errs, err: errs}}, policy: &policyFile{}}
	result := ran(t, true)
	in := report.Input{Records: result.Records}
	t.Setenv(historyVariable, historyOff)
	if b.keep(in, report.Build(in), result); contents(t, errs.Name()) != "" {
		t.Error("a run is kept that was not to be")
	}
	t.Setenv(historyVariable, "")
	b.keep(in, report.Build(in), result)
	if text := contents(t, errs.Name()); !strings.HasPrefix(text, "buildcage: warning: ") || strings.Count(text, "\n") != 1 {
		t.Errorf("stderr: %q", text)
	}
}

// A JSON report is a report again: what it says doesn't change on the way.
func TestReportOfReport(t *testing.T) {
	t.Setenv("COLUMNS", "100")
	result := ran(t, true)
	r := report.Build(report.Input{Records: result.Records, Complete: true, Mode: "restrict", Lines: map[string]int{"s1": 12}, Started: result.Started, Duration: result.Duration})
	file := filepath.Join(t.TempDir(), "report.json")
	var b bytes.Buffer
	if err := report.JSON(&b, r); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, format := range report.Formats() {
		var want bytes.Buffer
		if err := report.Write(&want, format, r, report.Options{Width: 100}); err != nil {
			t.Fatal(err)
		}
		got, stderr, code := shell(t, "report", "--format", format, file)
		if diff := cmp.Diff(want.String(), got); diff != "" || code != 0 {
			t.Errorf("%s: exit %d, %s:\n%s", format, code, stderr, diff)
		}
	}
}
