package main

import (
	"context"
	"fmt"
	"time"

	"github.com/buildcage/buildcage/bench/arena"
	"github.com/buildcage/buildcage/bench/figure"
	"github.com/buildcage/buildcage/bench/load"
)

const (
	// rounds of slices: many short ones, so that what else the machine does
	// meets both sides alike.
	rounds = 7
	slice  = time.Second

	haproxy = "HAProxy"
)

func proxyRows() []measure[*arena.Arena] {
	return []measure[*arena.Arena]{
		{"sni1", func(ctx context.Context, a *arena.Arena) ([]figure.Row, error) { return throughput(ctx, a, 1) }},
		{"sni16", func(ctx context.Context, a *arena.Arena) ([]figure.Row, error) { return throughput(ctx, a, 16) }},
		{"connect", connections},
		{"http", requests},
		{"download", downloads},
	}
}

// alternate does a task through both proxies, round by round, beginning with
// the other one each time. The first round warms up and does not count.
func alternate(ctx context.Context, a *arena.Arena, t load.Task, take func(ours, theirs arena.Measured)) error {
	for round := range rounds + 1 {
		var got [2]arena.Measured
		for i := range got {
			side := (round + i) % 2
			gate := []*arena.Gate{a.Cage, a.HAProxy}[side]
			m, err := gate.Run(ctx, t)
			if err != nil {
				return fmt.Errorf("through %s: %w", []string{"the cage", haproxy}[side], err)
			}
			got[side] = m
		}
		if round > 0 {
			take(got[0], got[1])
		}
	}
	return nil
}

// compare collects one row for each way of looking at the results.
func compare(ctx context.Context, a *arena.Arena, t load.Task, rows []figure.Row, see []func(arena.Measured) float64) ([]figure.Row, error) {
	err := alternate(ctx, a, t, func(ours, theirs arena.Measured) {
		for i := range rows {
			rows[i].Ours = append(rows[i].Ours, see[i](ours))
			rows[i].Theirs = append(rows[i].Theirs, see[i](theirs))
		}
	})
	return rows, err
}

func ratio(name, unit string, atMin bool, limit float64) figure.Row {
	return figure.Row{Name: name, Unit: unit, Other: haproxy, Budget: figure.Budget{Kind: figure.Ratio, AtMin: atMin, Limit: limit}}
}

func gigabytes(m arena.Measured) float64 { return float64(m.Bytes) / 1e9 / m.Seconds }
func perGB(m arena.Measured) float64     { return m.Processor.Seconds() / (float64(m.Bytes) / 1e9) }
func rate(m arena.Measured) float64      { return float64(m.Count) / m.Seconds }
func p50(m arena.Measured) float64       { return m.P50 }
func p99(m arena.Measured) float64       { return m.P99 }
func perThing(m arena.Measured) float64 {
	return m.Processor.Seconds() * 1e6 / float64(m.Count)
}

func throughput(ctx context.Context, a *arena.Arena, streams int) ([]figure.Row, error) {
	label := "1 stream"
	if streams > 1 {
		label = fmt.Sprintf("%d streams", streams)
	}
	return compare(ctx, a, load.Task{Kind: "stream", Clients: streams, Time: slice}, []figure.Row{
		ratio("SNI throughput, "+label, "GB/s", true, 1.15),
		ratio("processor time per GB, "+label, "s", false, 1),
	}, []func(arena.Measured) float64{gigabytes, perGB})
}

func connections(ctx context.Context, a *arena.Arena) ([]figure.Row, error) {
	return compare(ctx, a, load.Task{Kind: "connect", Clients: 64, Time: slice}, []figure.Row{
		ratio("SNI connections/s, 64 clients", "/s", true, 1),
		ratio("– time to the first byte, p50", "ms", false, 1),
		ratio("– time to the first byte, p99", "ms", false, 1),
		ratio("– processor time of one", "µs", false, 1),
	}, []func(arena.Measured) float64{rate, p50, p99, perThing})
}

func requests(ctx context.Context, a *arena.Arena) ([]figure.Row, error) {
	return compare(ctx, a, load.Task{Kind: "http", Path: load.Small, Clients: 64, Time: slice}, []figure.Row{
		ratio("HTTP requests/s, 64 clients, 1 KiB each", "/s", true, 0.8),
	}, []func(arena.Measured) float64{rate})
}

func downloads(ctx context.Context, a *arena.Arena) ([]figure.Row, error) {
	return compare(ctx, a, load.Task{Kind: "http", Path: load.Large, Clients: 4, Time: slice}, []figure.Row{
		ratio("HTTP throughput, 4 clients, 64 MiB each", "GB/s", true, 0.8),
	}, []func(arena.Measured) float64{gigabytes})
}
