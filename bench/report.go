package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/buildcage/buildcage/bench/figure"
)

const (
	page  = "docs/benchmarks.md"
	begin = "<!-- written by make bench: from here -->\n"
	end   = "<!-- written by make bench: to here -->\n"
)

// report prints the table and, after a run of all rows, puts it into the page.
func report(ctx context.Context, rows []figure.Row, took time.Duration) error {
	table := figure.Table(rows)
	fmt.Print(table)
	missed := 0
	for _, r := range rows {
		if !r.Holds() {
			missed++
		}
	}
	fmt.Printf("\n%d figures, %d miss their budget, %.0f s\n", len(rows), missed, took.Seconds())
	if os.Getenv("BENCH") != "" {
		return nil
	}
	text := fmt.Sprintf("%s\n%s\n%s\n%s", begin, machine(ctx, took), table, end)
	return write(text)
}

// write replaces what the last run wrote.
func write(text string) error {
	old, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(old, []byte(begin))
	_, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		return fmt.Errorf("%s has no place for the table", page)
	}
	return os.WriteFile(page, append(append(before, text...), after...), 0o644)
}

// machine says when and where, as far as it matters for a ratio.
func machine(ctx context.Context, took time.Duration) string {
	facts := []string{
		time.Now().UTC().Format("2006-01-02"),
		fmt.Sprintf("%d processors (%s)", runtime.NumCPU(), processor()),
		"Linux " + first(ctx, "uname", "-r"),
		runtime.Version(),
		first(ctx, "haproxy", "-v"),
		"engine " + first(ctx, "docker", "version", "-f", "{{.Server.Version}}"),
		fmt.Sprintf("%.0f s", took.Seconds()),
		"load " + loadAverage(),
	}
	return strings.Join(facts, " · ") + "\n"
}

// first is the first line that a program prints, without links.
func first(ctx context.Context, name string, args ...string) string {
	out, err := exec.CommandContext(ctx, name, args...).Output()
	if err != nil {
		return "unknown"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	line, _, _ = strings.Cut(line, " - http")
	return strings.TrimSpace(line)
}

func processor() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

func loadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}
