package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/buildcage/buildcage/bench/arena"
	"github.com/buildcage/buildcage/bench/figure"
)

// measure is one measurement; it may give several rows.
type measure[T any] struct {
	name string // in BENCH
	run  func(context.Context, T) ([]figure.Row, error)
}

// wanted says whether BENCH asks for a measurement; without it all are.
func wanted(name string) bool {
	list := os.Getenv("BENCH")
	return list == "" || slices.Contains(strings.Split(list, ","), name)
}

func anyWanted[T any](list []measure[T]) bool {
	return slices.ContainsFunc(list, func(m measure[T]) bool { return wanted(m.name) })
}

// take makes the measurements that are wanted, one after the other.
func take[T any](ctx context.Context, list []measure[T], on T) ([]figure.Row, error) {
	var rows []figure.Row
	for _, m := range list {
		if !wanted(m.name) {
			continue
		}
		start := time.Now()
		got, err := m.run(ctx, on)
		if err != nil {
			return nil, fmt.Errorf("measuring %s: %w", m.name, err)
		}
		for _, r := range got {
			fmt.Fprintf(os.Stderr, "bench: %-10s %s\n", m.name, r.Line())
		}
		fmt.Fprintf(os.Stderr, "bench: %-10s took %.1f s\n", m.name, time.Since(start).Seconds())
		rows = append(rows, got...)
	}
	return rows, nil
}

// inArena makes the proxy rows and writes them to standard output.
func inArena(ctx context.Context, cage, dir string) (err error) {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	a, err := arena.Open(ctx, program, cage, dir)
	if err != nil {
		return err
	}
	defer func() {
		if closed := a.Close(); err == nil {
			err = closed
		}
	}()
	rows, err := take(ctx, proxyRows(), a)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(rows)
}
