package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// item is one refused thing, whatever it was.
type item struct {
	what, protocol, why string
	count               int64
	expected            bool
	steps               []string
	notes               []string
	by                  []string // processes
}

// refusedItems are all refusals, the unexpected ones first.
func (t *text) refusedItems() []item {
	var items []item
	for _, d := range t.report.Destinations {
		if d.Verdict != event.Blocked {
			continue
		}
		why := string(d.Reason)
		if d.Rule != "" {
			why += " by " + d.Rule
		}
		items = append(items, item{
			what: address(d.Host, d.Port), protocol: d.Protocol, why: why,
			count: d.Connections, expected: d.Expected, steps: d.Steps, notes: notes(d), by: d.Processes,
		})
	}
	for _, d := range t.report.Drops {
		if !d.Expected { // noise is told in the last line
			host := cmp.Or(d.Name, d.Address)
			items = append(items, item{what: address(host, d.Port), protocol: d.Protocol, why: "not TCP", count: d.Count, steps: d.Steps})
		}
	}
	for _, q := range t.report.DNSRefused {
		items = append(items, item{what: address(q.Name, 0), protocol: "dns", why: string(q.Reason), count: q.Count, steps: q.Steps})
	}
	slices.SortStableFunc(items, func(a, b item) int { return order(a.expected) - order(b.expected) })
	return items
}

func order(later bool) int {
	if later {
		return 1
	}
	return 0
}

// notes are what a person needs to tell one refusal from another.
func notes(d Destination) []string {
	var n []string
	if len(d.NameRaw) > 0 {
		n = append(n, "as sent: "+d.NameRaw[0])
	}
	if len(d.Detail) > 0 {
		n = append(n, d.Detail[0])
	}
	return n
}

// refused lists refusals under the first step that met them.
func (t *text) refused() {
	items := t.refusedItems()
	if len(items) == 0 {
		return
	}
	t.heading("refused")
	var groups ordered[string, []item]
	for _, i := range items {
		id := ""
		if len(i.steps) > 0 {
			id = i.steps[0]
		}
		group := groups.at(id)
		*group = append(*group, i)
	}
	for n, id := range groups.keys {
		t.line("  ", t.head.Render(t.step(id, t.width-2)))
		var rows table
		for _, i := range *groups.vals[n] {
			symbol, style := "✗", t.bad
			if i.expected {
				symbol, style = "-", t.dim
				i.why = "expected: " + i.why
			}
			if others := len(i.steps) - 1; others > 0 {
				i.why += fmt.Sprintf(" (and %s)", plural(int64(others), "other step"))
			}
			rows.add(style, i.notes, symbol, i.what, protocol(i.protocol), fmt.Sprintf("%d×", i.count), inert(i.why))
			rows.rows[len(rows.rows)-1].by = i.by
		}
		t.table(rows, "    ")
	}
}

func protocol(p string) string {
	if p == "" {
		return "?"
	}
	return end(inert(p), maxShort)
}

// listLimit is how many rows a list has on a screen; the JSON has them all.
const listLimit = 40

// reached lists where connections went, failed ones first.
func (t *text) reached() {
	if t.reachedCount() == 0 {
		return
	}
	title := "allowed"
	if t.report.Mode == audit {
		title = "destinations"
	}
	t.heading("%s", title)
	var rows table
	rows.header = []string{"", "destination", "", "conns", "up", "down", "rule"}
	for _, d := range t.report.Destinations {
		symbol, style := "✓", t.good
		switch d.Verdict {
		case event.Blocked:
			continue
		case event.Audited:
			symbol, style = "+", t.warn
		case event.Failed:
			symbol, style = "!", t.warn
		}
		rows.add(style, nil, symbol, address(d.Host, d.Port), protocol(d.Protocol), fmt.Sprint(d.Connections), size(d.Up), size(d.Down), inert(strings.Join(append([]string{whyReached(d)}, d.Flags...), ", ")))
	}
	t.table(rows, "  ")
}

// whyReached says what let a connection through.
func whyReached(d Destination) string {
	switch {
	case d.Verdict == event.Failed:
		return "failed: " + string(d.Reason)
	case d.Expected:
		return "known blocked"
	case d.Verdict == event.Audited && (d.Reason == "" || d.Reason == event.NotAllowed || d.Reason == event.IPNotAllowed):
		return "no rule"
	case d.Verdict == event.Audited:
		return string(d.Reason)
	case d.Rule == address(d.Host, d.Port):
		return "exact"
	case d.Rule == "" && slices.Equal(d.Steps, []string{event.BuilderStep}):
		return "builder, not restricted"
	}
	return d.Rule
}

func (t *text) reachedCount() int {
	n := 0
	for _, d := range t.report.Destinations {
		if d.Verdict != event.Blocked {
			n++
		}
	}
	return n
}

// fetched lists what the builder itself got.
func (t *text) fetched() {
	if len(t.report.Sources) == 0 {
		return
	}
	t.heading("fetched by the builder")
	var rows table
	for _, s := range t.report.Sources {
		rows.add(t.dim, nil, "·", inert(s.Ref), size(s.Down), inert(s.Host))
	}
	t.table(rows, "  ")
}

// cached names the steps that did not run, and how they were judged: by what
// they were seen to do when they ran.
func (t *text) cached() {
	if t.report.Totals.Cached == 0 {
		return
	}
	t.heading("from cache")
	for _, s := range t.report.Steps {
		if s.Cached {
			note := judgedAs(s.Evidence)
			t.line("  ", t.dim.Render("= "+t.step(s.ID, t.width-4)))
			t.line("      ", t.dim.Render(note))
		}
	}
}

// judgedAs says what is known of a cached step.
func judgedAs(e *Evidence) string {
	if e == nil || e.Observed == nil || e.Verdict == event.EvidenceMissing {
		return "never observed: what it did is not known"
	}
	seen := "observed on " + e.Observed.UTC().Format("2006-01-02 15:04 UTC")
	if e.Verdict == event.EvidenceViolates {
		return seen + ": it did what today's policy refuses"
	}
	return seen + ": all of it is allowed today"
}
