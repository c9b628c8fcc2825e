// Package figure turns samples of two sides, taken in alternation, into one
// line of a table with a verdict. It measures nothing.
package figure

import (
	"fmt"
	"slices"
)

// Samples are what one side gave, one a round.
type Samples []float64

// Median is the middle sample, 0 without any.
func (s Samples) Median() float64 {
	if len(s) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// Kind is how the two sides are compared.
type Kind string

const (
	Ratio    Kind = "ratio"    // ours / theirs, round by round
	Added    Kind = "added"    // ours - theirs, round by round
	Absolute Kind = "absolute" // ours alone
	Growth   Kind = "growth"   // ours: the last sample by the first
)

// Budget is what a figure has to keep.
type Budget struct {
	Kind  Kind
	AtMin bool // the value must reach Limit; otherwise it must not exceed it
	Limit float64
	Unit  string // of the value, "" for ratios
}

func (b Budget) String() string {
	sign := "≤"
	if b.AtMin {
		sign = "≥"
	}
	switch b.Kind {
	case Added:
		return fmt.Sprintf("%s +%s", sign, number(b.Limit, b.Unit))
	case Absolute:
		return fmt.Sprintf("%s %s", sign, number(b.Limit, b.Unit))
	}
	return fmt.Sprintf("%s %.2f", sign, b.Limit)
}

// Row is one figure.
type Row struct {
	Name         string  // what is measured
	Unit         string  // of the samples
	Other        string  // what theirs is; "" where there is no other side
	Ours, Theirs Samples // the same number of rounds, or no Theirs
	Budget       Budget
	Note         string
}

// Value is what the budget judges: the median over the rounds.
func (r Row) Value() float64 { return r.values().Median() }

func (r Row) values() Samples {
	switch r.Budget.Kind {
	case Absolute:
		return r.Ours
	case Growth:
		if len(r.Ours) == 0 || r.Ours[0] == 0 {
			return nil
		}
		return Samples{r.Ours[len(r.Ours)-1] / r.Ours[0]}
	}
	var list Samples
	for i := range min(len(r.Ours), len(r.Theirs)) {
		if r.Budget.Kind == Added {
			list = append(list, r.Ours[i]-r.Theirs[i])
		} else if r.Theirs[i] != 0 {
			list = append(list, r.Ours[i]/r.Theirs[i])
		}
	}
	return list
}

// Holds reports whether the budget is kept. A row without values keeps none.
func (r Row) Holds() bool {
	if len(r.values()) == 0 {
		return false
	}
	if r.Budget.AtMin {
		return r.Value() >= r.Budget.Limit
	}
	return r.Value() <= r.Budget.Limit
}
