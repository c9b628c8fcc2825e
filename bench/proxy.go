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
		{"memory", memory},
		{"first", firsts},
	}
}

// alternate does a task through both proxies, round by round, beginning with
// the other one each time. The first round warms up and does not count.
func alternate(ctx context.Context, a *arena.Arena, t load.Task, take func(ours, theirs arena.Measured)) error {
	n := rounds
	if t.Kind == "connect" { // the figures nearest to their budgets
		n *= 2
	}
	for round := range n + 1 {
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

// settle is how long connections are open before memory is looked at.
const settle = 2 * time.Second

func memory(ctx context.Context, a *arena.Arena) ([]figure.Row, error) {
	n, err := arena.Connections(10_000)
	if err != nil {
		return nil, err
	}
	row := ratio(fmt.Sprintf("memory at %d open connections", n), "MiB", false, 1)
	if n < 10_000 {
		row.Note = "as many as a limit of two descriptors each leaves room for"
	}
	for round := range 3 {
		for i := range 2 {
			side := (round + i) % 2
			gate := []*arena.Gate{a.Cage, a.HAProxy}[side]
			err := gate.Hold(ctx, n, func() error {
				select {
				case <-time.After(settle):
				case <-ctx.Done():
					return ctx.Err()
				}
				bytes, err := gate.Memory()
				list := []*figure.Samples{&row.Ours, &row.Theirs}[side]
				*list = append(*list, float64(bytes)/(1<<20))
				return err
			})
			if err != nil {
				return nil, fmt.Errorf("through %s: %w", []string{"the cage", haproxy}[side], err)
			}
		}
	}
	return []figure.Row{row}, nil
}

// firsts compares the way to a name that nobody has asked for yet with the
// same without a proxy: question, connection, hello, first byte. The direct
// side has the resolver's own time in it.
func firsts(ctx context.Context, a *arena.Arena) ([]figure.Row, error) {
	row := figure.Row{
		Name: "first connection to a new name, p50", Unit: "ms", Other: "direct",
		Budget: figure.Budget{Kind: figure.Added, Limit: 2, Unit: "ms"},
	}
	t := load.Task{Kind: "first", Time: slice}
	for round := range rounds {
		for i := range 2 {
			side := (round + i) % 2
			m, err := []*arena.Gate{a.Cage, a.Direct}[side].Run(ctx, t)
			if err != nil {
				return nil, err
			}
			list := []*figure.Samples{&row.Ours, &row.Theirs}[side]
			*list = append(*list, m.P50)
		}
	}
	return []figure.Row{row}, nil
}
