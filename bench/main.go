// Command bench compares the cage with what a build would do without it, and
// its proxy with HAProxy, both sides in alternation in one run. It prints one
// table and writes it to docs/benchmarks.md. BENCH=row,row measures only those.
//
// Every figure is a ratio or a difference of rounds that were taken side by
// side, and a budget that it keeps or misses.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/buildcage/buildcage/bench/figure"
	"github.com/buildcage/buildcage/bench/load"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: error: %v\n", err)
		os.Exit(1)
	}
}

// run is the benchmark, or with arguments one of the processes that it consists of.
func run(ctx context.Context, args []string) error {
	switch {
	case len(args) == 0:
		return bench(ctx)
	case args[0] == "arena" && len(args) == 3:
		return inArena(ctx, args[1], args[2])
	case args[0] == "usage" && len(args) > 1:
		return usage(ctx, args[1], args[2:]...)
	case args[0] == "origin" && len(args) == 2:
		self, err := netip.ParseAddr(args[1])
		if err != nil {
			return err
		}
		return load.Origin(self, func() { fmt.Println("ready") })
	case args[0] == "client" && len(args) == 2:
		t, err := load.ParseTask(args[1])
		if err != nil {
			return err
		}
		return load.Run(t, os.Stdin, func(r load.Result) error { return json.NewEncoder(os.Stdout).Encode(r) })
	}
	return fmt.Errorf("arguments %q", args)
}

// bench measures all rows that were asked for and writes the result.
func bench(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces need root")
	}
	dir, err := filepath.Abs(filepath.Join(".cache", "bench"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	start := time.Now()
	rows, err := outside(ctx, dir)
	if err != nil {
		return err
	}
	matching, err := take(ctx, ruleRows(), struct{}{})
	if err != nil {
		return err
	}
	builders, err := inEngine(ctx, dir)
	if err != nil {
		return err
	}
	return report(ctx, slices.Concat(rows, matching, builders), time.Since(start))
}

// outside runs the proxy rows in namespaces of their own.
func outside(ctx context.Context, dir string) ([]figure.Row, error) {
	if !anyWanted(proxyRows()) {
		return nil, nil
	}
	cage := filepath.Join(dir, "cage")
	build := exec.CommandContext(ctx, "go", "build", "-o", cage, "./bench/cage")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the cage: %w: %s", err, out)
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "arena", cage, dir)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("measuring proxies: %w", err)
	}
	var rows []figure.Row
	return rows, json.Unmarshal(out, &rows)
}
