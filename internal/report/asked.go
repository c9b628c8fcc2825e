package report

import (
	"fmt"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// onlyAsked lists names that a step asked for without connecting. Nothing left
// the cage by that, but a name can carry data, so many under one domain are told.
func (t *text) onlyAsked() {
	if t.report.Totals.DNSOnly == 0 && len(t.report.Resolvers) == 0 {
		return
	}
	t.heading("only asked for by name (answered in the cage, nothing was sent on)")
	var groups ordered[string, []Question]
	for _, q := range t.report.DNSOnly {
		group := groups.at(domain(q.Name))
		*group = append(*group, q)
	}
	var rows table
	for n, of := range groups.keys {
		group := *groups.vals[n]
		if len(group) < 3 {
			for _, q := range group {
				rows.add(t.warn, nil, "?", address(q.Name, 0), end(inert(strings.Join(q.Types, ",")), maxShort), fmt.Sprintf("%d×", q.Count), t.by(q.Steps))
			}
			continue
		}
		count := int64(0)
		for _, q := range group {
			count = event.Add(count, q.Count)
		}
		what := fmt.Sprintf("%d names under %s", len(group), inert(of))
		rows.add(t.warn, []string{"such as " + middle(inert(group[0].Name), t.width-20)}, "?", what, end(inert(strings.Join(group[0].Types, ",")), maxShort), fmt.Sprintf("%d×", count), t.by(group[0].Steps))
	}
	for _, f := range t.report.Resolvers {
		rows.add(t.warn, nil, "!", address(f.Address, 53)+" instead of the cage's resolver", "dns", fmt.Sprintf("%d×", f.Count), t.by(f.Steps))
	}
	t.table(rows, "  ")
	if hidden := t.report.Totals.DNSOnly - len(t.report.DNSOnly); hidden > 0 {
		t.line("  and ", plural(int64(hidden), "more name"))
	}
}

// domain is the last two labels of a name.
func domain(name string) string {
	labels := strings.Split(name, ".")
	return strings.Join(labels[max(0, len(labels)-2):], ".")
}
