package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// tally counts tests and subtests in the output of "go test -json". It prints
// one line per package, and what a test that should not have failed or been skipped had to say.
type tally struct {
	out                     io.Writer
	strict                  bool // a skipped test is a failure
	passed, failed, skipped int
	packages                map[string]*pkg
}

type pkg struct {
	output  map[string][]string // by test; "" is the package itself
	running map[string]bool
	passed  int
	failed  int
	skipped int
}

// event is a record of "go test -json", see "go doc test2json".
type event struct {
	Action     string
	Package    string
	ImportPath string
	Test       string
	Output     string
	Elapsed    float64
}

func newTally(out io.Writer, strict bool) *tally {
	return &tally{out: out, strict: strict, packages: make(map[string]*pkg)}
}

// String is the closing line.
func (t *tally) String() string {
	return fmt.Sprintf("%d passed, %d failed, %d skipped", t.passed, t.failed, t.skipped)
}

// verdict returns the reason why the run counts as failed, or nil.
func (t *tally) verdict() error {
	switch {
	case t.failed > 0:
		return errors.New("tests failed")
	case t.strict && t.skipped > 0:
		return errors.New("tests were skipped, and this suite skips none")
	case t.passed == 0:
		return errors.New("no test ran")
	}
	return nil
}

func (t *tally) read(r io.Reader) error {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var e event
			if jsonErr := json.Unmarshal(line, &e); jsonErr != nil {
				fmt.Fprintf(t.out, "%s", line)
			} else {
				t.add(e)
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading test output: %w", err)
		}
	}
}

func (t *tally) add(e event) {
	if e.Action == "build-output" {
		fmt.Fprint(t.out, e.Output)
		return
	}
	if e.Package == "" {
		return
	}
	p := t.packages[e.Package]
	if p == nil {
		p = &pkg{output: make(map[string][]string), running: make(map[string]bool)}
		t.packages[e.Package] = p
	}
	switch {
	case e.Action == "output":
		p.output[e.Test] = append(p.output[e.Test], e.Output)
	case e.Test != "":
		t.addTest(p, e)
	case e.Action == "pass" || e.Action == "fail" || e.Action == "skip":
		t.addPackage(p, e)
		delete(t.packages, e.Package)
	}
}

func (t *tally) addTest(p *pkg, e event) {
	switch e.Action {
	case "run":
		p.running[e.Test] = true
		return
	case "pass":
		t.passed++
		p.passed++
	case "fail":
		t.failed++
		p.failed++
		t.dump(p, e.Test)
	case "skip":
		t.skipped++
		p.skipped++
		if t.strict {
			t.dump(p, e.Test)
		}
	default:
		return
	}
	delete(p.running, e.Test)
	delete(p.output, e.Test)
}

// addPackage ends a package. A package can fail without any test that did: it
// does not compile, it panicked, or it ran out of time. That counts as failed, too.
func (t *tally) addPackage(p *pkg, e event) {
	if e.Action == "fail" && (p.failed == 0 || len(p.running) > 0) {
		t.failed++
		for name := range p.running {
			t.dump(p, name)
		}
		t.dump(p, "")
	}
	name := strings.TrimPrefix(strings.TrimPrefix(e.Package, module), "/")
	counts := fmt.Sprintf("%d passed", p.passed)
	if p.skipped > 0 {
		counts += fmt.Sprintf(", %d skipped", p.skipped)
	}
	fmt.Fprintf(t.out, "%-4s %-32s %6.1fs  %s\n", e.Action, name, e.Elapsed, counts)
}

func (t *tally) dump(p *pkg, test string) {
	lines := slices.DeleteFunc(p.output[test], func(line string) bool {
		return strings.HasPrefix(line, "=== ")
	})
	fmt.Fprint(t.out, strings.Join(lines, ""))
}
