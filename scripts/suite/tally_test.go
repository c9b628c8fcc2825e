package main

import (
	"strings"
	"testing"
)

func TestTally(t *testing.T) {
	tests := []struct {
		name    string
		input   string
		count   string
		printed string // must be in the output
		err     string // of the strict verdict
	}{
		{
			name: "all pass, subtests count",
			input: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Test":"TestA/x"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"pass","Package":"p","Elapsed":0.1}`,
			count: "2 passed, 0 failed, 0 skipped",
		},
		{
			name: "a failure is shown",
			input: `{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"want 1, got 2\n"}
{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"fail","Package":"p"}`,
			count: "0 passed, 1 failed, 0 skipped", printed: "want 1, got 2", err: "tests failed",
		},
		{
			name: "a skip is shown and refused",
			input: `{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"set BUILDCAGE_TEST_X=1\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
{"Action":"pass","Package":"p"}`,
			count: "1 passed, 0 failed, 1 skipped", printed: "set BUILDCAGE_TEST_X=1", err: "skips none",
		},
		{
			name: "a package without tests is not a skipped test",
			input: `{"Action":"skip","Package":"p"}
{"Action":"pass","Package":"q","Test":"TestA"}`,
			count: "1 passed, 0 failed, 0 skipped",
		},
		{
			name: "a package that does not compile fails",
			input: `{"ImportPath":"p","Action":"build-output","Output":"p.go:1: no such thing\n"}
{"ImportPath":"p","Action":"build-fail"}
{"Action":"fail","Package":"p","FailedBuild":"p"}`,
			count: "0 passed, 1 failed, 0 skipped", printed: "no such thing", err: "tests failed",
		},
		{
			name: "a test that never ended fails, even beside another failure",
			input: `{"Action":"fail","Package":"p","Test":"TestA"}
{"Action":"run","Package":"p","Test":"TestB"}
{"Action":"output","Package":"p","Test":"TestB","Output":"panic: out of luck\n"}
{"Action":"fail","Package":"p"}`,
			count: "0 passed, 2 failed, 0 skipped", printed: "out of luck", err: "tests failed",
		},
		{name: "nothing ran", count: "0 passed, 0 failed, 0 skipped", err: "no test ran"},
		{name: "a line that is not JSON", input: "go: cannot find module", count: "0 passed, 0 failed, 0 skipped", printed: "cannot find", err: "no test ran"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			total := newTally(&out, true)
			if err := total.read(strings.NewReader(tt.input)); err != nil {
				t.Fatal(err)
			}
			if got := total.String(); got != tt.count {
				t.Errorf("count is %q, want %q", got, tt.count)
			}
			if !strings.Contains(out.String(), tt.printed) {
				t.Errorf("output %q lacks %q", &out, tt.printed)
			}
			switch err := total.verdict(); {
			case tt.err == "" && err != nil:
				t.Errorf("verdict: %v", err)
			case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
				t.Errorf("verdict is %v, want one with %q", err, tt.err)
			}
		})
	}
}

// Every package is in one phase of the whole suite, so that none is forgotten.
func TestPhasesCoverEverything(t *testing.T) {
	targets, err := list(t.Context())
	if err != nil || len(targets) == 0 {
		t.Fatalf("%d packages: %v", len(targets), err)
	}
	engines := 0
	for _, target := range targets {
		n := 0
		for _, p := range suites()["all"].phases {
			if p.match(target) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s is in %d phases", target.path, n)
		}
		if target.engine {
			engines++
		}
	}
	if engines < 4 {
		t.Errorf("%d packages use an engine", engines)
	}
}
