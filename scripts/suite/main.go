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
	"syscall"
	"time"
)

const module = "github.com/buildcage/buildcage"

// summaryFile keeps the last line for whoever runs the suite from a script.
const summaryFile = ".cache/suite/summary"

// engineGate asks for the tests that need an engine.
const engineGate = "BUILDCAGE_TEST_ENGINE"

// engineLock is held by the test program that uses the engine.
const engineLock = ".cache/suite/engine.lock"

// phase is one run of "go test".
type phase struct {
	title string
	match func(target) bool
	args  []string
	env   []string
	alone bool // its test programs run one after the other: each proves that it leaves nothing in the engine
}

// suite is an ordered list of phases.
type suite struct {
	phases []phase
	strict bool // a skipped test is a failure
}

func suites() map[string]suite {
	gates := []string{"BUILDCAGE_TEST_NETNS=1", engineGate + "=1", "BUILDCAGE_TEST_IMAGE=1", "BUILDCAGE_TEST_LAB=1", "BUILDCAGE_TEST_RELEASE=1"}
	e2e := phase{
		title: "e2e: the real program against a real engine",
		match: target.isE2E,
		args:  []string{"-count=1", "-vet=off", "-timeout=20m"},
		env:   gates,
		alone: true,
	}
	return map[string]suite{
		"unit": {phases: []phase{{
			title: "unit",
			match: func(t target) bool { return !t.isE2E() },
			args:  []string{"-timeout=5m"},
		}}},
		"e2e": {strict: true, phases: []phase{e2e}},
		"battery": {strict: true, phases: []phase{{
			title: "battery: every attack, caged and uncaged",
			match: func(t target) bool { return t.under("test/e2e/battery") },
			args:  []string{"-count=1", "-timeout=90m"},
			env:   append([]string{"BUILDCAGE_BATTERY=all", "BUILDCAGE_BATTERY_TABLE=../../../docs/battery.md"}, gates...),
		}}},
		"all": {strict: true, phases: []phase{
			{
				title: "cage side: unit and netns, with the race detector",
				match: target.isCage,
				args:  []string{"-count=1", "-vet=off", "-race", "-timeout=5m"},
				env:   append([]string{"CGO_ENABLED=1"}, gates...),
			},
			{
				title: "host side: unit, script and image",
				match: func(t target) bool { return !t.isCage() && !t.isE2E() && !t.engine },
				args:  []string{"-count=1", "-vet=off", "-timeout=10m"},
				env:   gates,
			},
			{
				title: "host side: a real engine",
				match: func(t target) bool { return t.engine && !t.isCage() && !t.isE2E() },
				args:  []string{"-count=1", "-vet=off", "-timeout=10m"},
				env:   gates,
				alone: true,
			},
			e2e,
		}},
	}
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
	if err := os.MkdirAll(filepath.Dir(summaryFile), 0o755); err != nil {
		return fmt.Errorf("writing summary: %w", err)
	}
	targets, err := list(ctx)
	if err != nil {
		return err
	}
	total := newTally(out, s.strict)
	for _, p := range s.phases {
		start := time.Now()
		fmt.Fprintf(out, "\n=== %s\n", p.title)
		if err := p.run(ctx, targets, total); err != nil {
			return err
		}
		fmt.Fprintf(out, "--- %.0fs\n", time.Since(start).Seconds())
	}
	return finish(out, total)
}

// finish prints the count and turns it into a verdict.
func finish(out io.Writer, total *tally) error {
	if err := os.WriteFile(summaryFile, []byte(total.String()+"\n"), 0o644); err != nil {
		return fmt.Errorf("writing summary: %w", err)
	}
	fmt.Fprintf(out, "\n%s\n", total)
	return total.verdict()
}

// run counts the tests of the packages that p matches. A test that fails is
// not an error; it is in the tally.
func (p phase) run(ctx context.Context, targets []target, total *tally) error {
	args := append([]string{"test", "-json"}, p.args...)
	if p.alone { // unlike with -p=1, the others are compiled in the meantime
		lock, err := filepath.Abs(engineLock)
		if err != nil {
			return fmt.Errorf("finding the lock: %w", err)
		}
		args = append(args, "-exec", "flock --no-fork '"+lock+"'")
	}
	n := len(args)
	for _, t := range targets {
		if p.match(t) {
			args = append(args, t.path)
		}
	}
	if len(args) == n {
		fmt.Fprintln(total.out, "no packages")
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(append(os.Environ(), "BUILDCAGE_HISTORY=off"), p.env...)
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
