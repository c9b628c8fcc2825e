package main

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/buildcage/buildcage/bench/figure"
	"github.com/buildcage/buildcage/internal/policy"
)

// ruleRows need nothing but this process.
func ruleRows() []measure[struct{}] { return []measure[struct{}]{{"rules", rules}} }

// A sample is made of lookups, and the least of samples counts: what else runs
// only adds. The sizes take turns, so that it adds to all.
const (
	lookups = 10_000
	samples = 40
)

// rules times one decision with ever more rules, of which the last one decides.
func rules(context.Context, struct{}) ([]figure.Row, error) {
	var rows []figure.Row
	for _, kind := range []struct{ name, rule, target string }{
		{"exact", "h%d.example.com:443", "h%d.example.com"},
		{"suffix", "**.h%d.example.com:443", "a.b.h%d.example.com"},
	} {
		row := figure.Row{
			Name: "one decision with 10, 1 000, 10 000 " + kind.name + " rules", Unit: "ns",
			Budget: figure.Budget{Kind: figure.Growth, Limit: 1.5},
		}
		var scopes []*policy.Scope
		sizes := []int{10, 1000, 10_000}
		for _, n := range sizes {
			spec := policy.Spec{Mode: policy.Restrict}
			for i := range n {
				spec.Rules.HTTPS = append(spec.Rules.HTTPS, policy.Text{Text: fmt.Sprintf(kind.rule, i)})
			}
			compiled, err := policy.Compile(spec)
			if err != nil {
				return nil, err
			}
			scopes, row.Ours = append(scopes, compiled.For(policy.Step{})), append(row.Ours, math.Inf(1))
		}
		for range samples {
			for i, n := range sizes {
				took, err := decision(scopes[i], fmt.Sprintf(kind.target, n-1))
				if err != nil {
					return nil, err
				}
				row.Ours[i] = min(row.Ours[i], took)
			}
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// decision is one sample, in nanoseconds.
func decision(scope *policy.Scope, name string) (float64, error) {
	target := policy.Target{Protocol: policy.TLS, Name: name, Port: 443}
	begin := time.Now()
	for range lookups {
		if !scope.Judge(target).Allowed {
			return 0, fmt.Errorf("%s is not allowed", name)
		}
	}
	return float64(time.Since(begin).Nanoseconds()) / lookups, nil
}
