package main

import (
	"context"
	"fmt"
	"time"

	"github.com/buildcage/buildcage/bench/figure"
	"github.com/buildcage/buildcage/internal/policy"
)

// ruleRows need nothing but this process.
func ruleRows() []measure[struct{}] { return []measure[struct{}]{{"rules", rules}} }

// lookups is how many decisions one sample is made of.
const lookups = 20_000

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
		for _, n := range []int{10, 1000, 10_000} {
			spec := policy.Spec{Mode: policy.Restrict}
			for i := range n {
				spec.Rules.HTTPS = append(spec.Rules.HTTPS, policy.Text{Text: fmt.Sprintf(kind.rule, i)})
			}
			compiled, err := policy.Compile(spec)
			if err != nil {
				return nil, err
			}
			took, err := decision(compiled.For(policy.Step{}), fmt.Sprintf(kind.target, n-1))
			if err != nil {
				return nil, err
			}
			row.Ours = append(row.Ours, took)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

// decision is the least of several samples: what else runs only adds.
func decision(scope *policy.Scope, name string) (float64, error) {
	target := policy.Target{Protocol: policy.TLS, Name: name, Port: 443}
	best := time.Duration(1<<63 - 1)
	for range rounds {
		begin := time.Now()
		for range lookups {
			if !scope.Judge(target).Allowed {
				return 0, fmt.Errorf("%s is not allowed", name)
			}
		}
		best = min(best, time.Since(begin))
	}
	return float64(best.Nanoseconds()) / lookups, nil
}
