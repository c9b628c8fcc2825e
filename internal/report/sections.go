package report

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// refused lists refusals under the first step that met them.
func (t *text) refused() {
	if len(t.items()) == 0 {
		return
	}
	t.heading("refused")
	for _, g := range t.groups() {
		t.line("  ", t.head.Render(t.step(g.step, t.width-2)))
		var rows table
		for _, i := range g.items {
			symbol, style := markBad, t.bad
			if i.expected {
				symbol, style = "-", t.dim
			}
			rows.add(style, i.notes, symbol, i.what, protocol(i.protocol), fmt.Sprintf("%d×", i.count), i.because())
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
	for _, d := range t.destinations() {
		symbol, style := markGood, t.good
		switch d.Verdict {
		case event.Audited:
			symbol, style = "+", t.warn
		case event.Failed:
			symbol, style = "!", t.warn
		}
		rows.add(style, nil, symbol, address(d.Host, d.Port), protocol(d.Protocol), fmt.Sprint(d.Connections), size(d.Up), size(d.Down), inert(strings.Join(append([]string{whyReached(d)}, d.Flags...), ", ")))
	}
	t.table(rows, "  ")
}

// fetched lists what the builder itself got and sent.
func (t *text) fetched() {
	if len(t.report.Sources) == 0 {
		return
	}
	t.heading("fetched by the builder")
	var rows table
	rows.header = []string{"", "source", "", "up", "down", "from"}
	for _, s := range t.report.Sources {
		from, notes := s.from()
		rows.add(t.dim, notes, "·", inert(s.Ref), "", size(s.Up), size(s.Down), from)
	}
	t.table(rows, "  ")
}

// from is where a source came from, inert, and what to say below where that is
// several destinations.
func (s *Source) from() (host string, notes []string) {
	host = inert(cmp.Or(s.Host, strings.Join(s.Hosts, " ")))
	if len(s.Hosts) > 1 {
		notes = []string{"over " + strings.Join(s.Hosts, ", ")}
	}
	return host, notes
}

// cached names the steps that did not run, and how they were judged: by what
// they were seen to do when they ran.
func (t *text) cached() {
	steps := t.fromCache()
	if len(steps) == 0 {
		return
	}
	t.heading("from cache")
	for _, s := range steps {
		t.line("  ", t.dim.Render("= "+t.step(s.ID, t.width-4)))
		t.line("      ", t.dim.Render(end(judgedAs(s.Evidence), t.width-6)))
	}
}
