// Command suite runs the tests in phases and counts them. It is what "make
// test", "make unit" and "make e2e" call.
//
// The last line it prints is the count. In the suites "all" and "e2e" a skipped
// test is a failure: what nobody ran proves nothing.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const module = "github.com/buildcage/buildcage"

// summaryFile keeps the last line for whoever runs the suite from a script.
const summaryFile = ".cache/suite/summary"

// phase is one run of "go test".
type phase struct {
	title string
	match func(pkg string) bool
	args  []string
	env   []string
}

// suite is an ordered list of phases.
type suite struct {
	phases []phase
	strict bool // a skipped test is a failure
}

func suites() map[string]suite {
	gates := []string{"BUILDCAGE_TEST_NETNS=1", "BUILDCAGE_TEST_ENGINE=1", "BUILDCAGE_TEST_IMAGE=1"}
	e2e := phase{
		title: "e2e: the real engine",
		match: isE2E,
		args:  []string{"-count=1", "-p=1", "-timeout=25m"},
		env:   gates,
	}
	return map[string]suite{
		"unit": {phases: []phase{{
			title: "unit",
			match: func(pkg string) bool { return !isE2E(pkg) },
			args:  []string{"-timeout=5m"},
		}}},
		"e2e": {strict: true, phases: []phase{e2e}},
		"all": {strict: true, phases: []phase{
			{
				title: "cage side: unit and netns, with the race detector",
				match: isCage,
				args:  []string{"-count=1", "-race", "-timeout=10m"},
				env:   append([]string{"CGO_ENABLED=1"}, gates...),
			},
			{
				title: "host side: unit, script and image",
				match: func(pkg string) bool { return !isCage(pkg) && !isE2E(pkg) },
				args:  []string{"-count=1", "-timeout=10m"},
				env:   gates,
			},
			e2e,
		}},
	}
}

func isCage(pkg string) bool {
	for _, p := range []string{"cmd/caged", "internal/cage", "internal/policy", "internal/event", "internal/contract"} {
		if pkg == module+"/"+p || strings.HasPrefix(pkg, module+"/"+p+"/") {
			return true
		}
	}
	return false
}

func isE2E(pkg string) bool {
	return pkg == module+"/test/e2e" || strings.HasPrefix(pkg, module+"/test/e2e/")
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "suite: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) != 1 {
		return fmt.Errorf("got %d arguments, want the name of a suite", len(args))
	}
	s, ok := suites()[args[0]]
	if !ok {
		return fmt.Errorf("there is no suite %q", args[0])
	}
	packages, err := list(ctx)
	if err != nil {
		return err
	}
	total := newTally(out, s.strict)
	for _, p := range s.phases {
		start := time.Now()
		fmt.Fprintf(out, "\n=== %s\n", p.title)
		if err := p.run(ctx, packages, total); err != nil {
			return err
		}
		fmt.Fprintf(out, "--- %.0fs\n", time.Since(start).Seconds())
	}
	return finish(out, total)
}

// finish prints the count and turns it into a verdict.
func finish(out io.Writer, total *tally) error {
	if err := os.MkdirAll(filepath.Dir(summaryFile), 0o755); err != nil {
		return fmt.Errorf("writing summary: %w", err)
	}
	if err := os.WriteFile(summaryFile, []byte(total.String()+"\n"), 0o644); err != nil {
		return fmt.Errorf("writing summary: %w", err)
	}
	fmt.Fprintf(out, "\n%s\n", total)
	return total.verdict()
}

// list returns the packages of the module that have tests.
func list(ctx context.Context) ([]string, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-f", "{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}", "./...")
	cmd.Stderr = os.Stderr
	data, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("listing packages: %w", err)
	}
	return strings.Fields(string(data)), nil
}

// run counts the tests of the packages that p matches. A test that fails is
// not an error; it is in the tally.
func (p phase) run(ctx context.Context, packages []string, total *tally) error {
	args := append([]string{"test", "-json"}, p.args...)
	n := len(args)
	for _, pkg := range packages {
		if p.match(pkg) {
			args = append(args, pkg)
		}
	}
	if len(args) == n {
		fmt.Fprintln(total.out, "no packages")
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stderr = os.Stderr
	// go test kills its children when it is interrupted, not when it is killed.
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("running go test: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("running go test: %w", err)
	}
	before := total.failed
	readErr := total.read(stdout)
	if err := cmd.Wait(); ctx.Err() != nil {
		return fmt.Errorf("running go test: %w", ctx.Err())
	} else if readErr != nil {
		return readErr
	} else if err != nil && total.failed == before {
		return fmt.Errorf("running go test: %w", err)
	}
	return nil
}
