package figure_test

import (
	"strings"
	"testing"

	"github.com/buildcage/buildcage/bench/figure"
)

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		name  string
		row   figure.Row
		value float64
		holds bool
	}{
		{"rounds are compared with each other", figure.Row{
			Ours: figure.Samples{10, 200, 3}, Theirs: figure.Samples{5, 100, 1},
			Budget: figure.Budget{Kind: figure.Ratio, AtMin: true, Limit: 2},
		}, 2, true},
		{"a ratio that falls short", figure.Row{
			Ours: figure.Samples{9}, Theirs: figure.Samples{10},
			Budget: figure.Budget{Kind: figure.Ratio, AtMin: true, Limit: 1},
		}, 0.9, false},
		{"an even number of rounds", figure.Row{
			Ours: figure.Samples{1, 2, 3, 4}, Budget: figure.Budget{Kind: figure.Absolute, Limit: 2.4},
		}, 2.5, false},
		{"what is added", figure.Row{
			Ours: figure.Samples{12, 30}, Theirs: figure.Samples{11, 29},
			Budget: figure.Budget{Kind: figure.Added, Limit: 1},
		}, 1, true},
		{"growth from the first to the last", figure.Row{
			Ours: figure.Samples{4, 50, 5}, Budget: figure.Budget{Kind: figure.Growth, Limit: 1.5},
		}, 1.25, true},
		{"nothing measured", figure.Row{Budget: figure.Budget{Kind: figure.Absolute, Limit: 1}}, 0, false},
		{"the other side is missing", figure.Row{
			Ours: figure.Samples{1}, Budget: figure.Budget{Kind: figure.Ratio, Limit: 1},
		}, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.row.Value(); got != c.value {
				t.Errorf("value %v, want %v", got, c.value)
			}
			if got := c.row.Holds(); got != c.holds {
				t.Errorf("holds %v, want %v", got, c.holds)
			}
		})
	}
}

func TestTable(t *testing.T) {
	got := figure.Table([]figure.Row{
		{
			Name: "throughput", Unit: "GB/s", Other: "HAProxy", Note: "1 stream",
			Ours: figure.Samples{2, 3, 4}, Theirs: figure.Samples{2, 2, 2},
			Budget: figure.Budget{Kind: figure.Ratio, AtMin: true, Limit: 1.15},
		},
		{
			Name: "per step", Unit: "ms", Other: "uncaged", Ours: figure.Samples{130}, Theirs: figure.Samples{100},
			Budget: figure.Budget{Kind: figure.Added, Limit: 25, Unit: "ms"},
		},
		{Name: "binary", Unit: "MB", Ours: figure.Samples{109.6}, Budget: figure.Budget{Kind: figure.Absolute, Limit: 110, Unit: "MB"}},
	})
	want := []string{
		"| throughput — 1 stream | HAProxy | 2 / 3 / 4 GB/s | 2 / 2 / 2 GB/s | **1.50** (1.00 … 2.00) | ≥ 1.15 | pass |",
		"| per step | uncaged | 130 ms | 100 ms | **+30 ms** | ≤ +25 ms | **miss** |",
		"| binary | – | 110 MB | – | **110 MB** | ≤ 110 MB | pass |",
	}
	lines := strings.Split(strings.TrimSpace(got), "\n")[2:]
	for i, line := range lines {
		if line != want[i] {
			t.Errorf("line %d\n got %s\nwant %s", i, line, want[i])
		}
	}
	if len(lines) != len(want) {
		t.Errorf("%d lines, want %d", len(lines), len(want))
	}
}
