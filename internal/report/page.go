package report

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// page is a Report as headings and tables, for formats that flow: Markdown and
// HTML. Its texts are inert; each format escapes them for where they go.
type page struct {
	summary
	limit    int // rows of a list
	Mark     string
	Headline string
	Doubts   []string
	Sections []section
	Footer   []string
}

// section is a heading and what stands below. A folded one is opened by a click.
type section struct {
	Title  string
	Note   string // our own words
	Folded bool
	Blocks []block
}

// block is a table or a text to copy, below what it is about.
type block struct {
	Lead  string // foreign
	Place string // of the lead; foreign
	Head  []column
	Rows  []line
	Code  string // to be copied as it is
	More  int    // rows left out
}

type column struct {
	Name string
	Kind kind
}

// kind of a column.
type kind string

const (
	foreign kind = "code" // text that may come from the build
	number  kind = "num"
)

// line is a row of a table; its first cell is the mark.
type line struct {
	Mark  string
	Cells []string
}

// Tone is what the mark says, in a word.
func (l line) Tone() string { return tone(l.Mark) }

func tone(mark string) string {
	switch mark {
	case markGood:
		return "good"
	case markBad:
		return "bad"
	case markWarn, "+", "↑", "?":
		return "warn"
	}
	return "plain"
}

func newPage(r *Report, perStep bool, limit int) *page {
	p := &page{summary: newSummary(r, perStep), limit: limit}
	p.Mark, p.Headline = p.headline()
	p.Doubts = p.doubts()
	p.refused()
	if r.Mode != audit {
		p.suggest()
	}
	p.uploads()
	p.asked()
	p.allowed()
	if r.Mode == audit {
		p.suggest()
	}
	p.cached()
	p.fetched()
	p.Footer = append(p.Footer, p.totals())
	if n := p.noise(); n > 0 {
		p.Footer = append(p.Footer, plural(n, "packet")+" of kernel noise refused, as always")
	}
	if n := r.Totals.Lost; n > 0 {
		p.Footer = append(p.Footer, plural(n, "packet")+" could not be counted; refused packets may be more")
	}
	return p
}

// add takes a section; its blocks are cut to the limit.
func (p *page) add(s section) {
	room := p.limit
	var blocks []block
	left := 0
	for _, b := range s.Blocks {
		if room == 0 && len(b.Rows) > 0 {
			left += len(b.Rows)
			continue
		}
		if n := len(b.Rows) - room; n > 0 {
			b.Rows, left = b.Rows[:room], left+n
		}
		room -= len(b.Rows)
		blocks = append(blocks, b)
	}
	if len(blocks) == 0 {
		return
	}
	blocks[len(blocks)-1].More += left
	s.Blocks = blocks
	p.Sections = append(p.Sections, s)
}

// openRows is how long a list may be that is not folded.
const openRows = 25

func (p *page) refused() {
	s := section{Title: "Refused"}
	rows := 0
	for _, g := range p.groups() {
		b := block{Lead: p.title(g.step, maxWidth), Place: p.place(g.step), Head: []column{
			{"destination", foreign}, {"protocol", foreign}, {"times", number}, {"why", foreign}, {"by", foreign}}}
		for _, i := range g.items {
			mark := markBad
			if i.expected {
				mark = "-"
			}
			b.Rows = append(b.Rows, line{mark, []string{i.what, protocol(i.protocol), fmt.Sprint(i.count), i.because(), detail(&i)}})
		}
		rows += len(b.Rows)
		s.Blocks = append(s.Blocks, b)
	}
	s.Folded = rows > openRows
	p.add(s)
}

// detail is who it was, and what else tells one refusal from another.
func detail(i *item) string {
	parts := processLines(i.by, maxWidth)
	for _, note := range i.notes {
		parts = append(parts, end(inert(note), maxWidth))
	}
	return strings.Join(parts, "; ")
}

func (p *page) suggest() {
	if p.toAdd() == 0 {
		return
	}
	file := end(cmp.Or(inert(p.report.Config), "buildcage.yaml"), maxWidth)
	lines := strings.SplitAfter(rulesText(p.report, p.perStep), "\n")
	b := block{Lead: file}
	if n := len(lines) - p.limit; n > 0 {
		lines, b.More = lines[:p.limit], n
	}
	b.Code = strings.Join(lines, "")
	s := section{Title: "To allow what you expect, add to", Folded: len(lines) > 2*openRows, Blocks: []block{b},
		Note: "What is rightly refused goes under known_blocked_rules, and fails no build."}
	if p.report.Mode == audit {
		s.Title, s.Note = "Rules to add to", ""
	}
	p.add(s)
}

func (p *page) uploads() {
	b := block{Head: []column{{"destination", foreign}, {"protocol", foreign}, {"up", number}, {"down", number}, {"step", foreign}}}
	for _, u := range p.report.Uploads {
		b.Rows = append(b.Rows, line{"↑", []string{address(u.Host, u.Port), protocol(u.Protocol), size(u.Up), size(u.Down), p.by([]string{u.Step})}})
	}
	p.table("Uploads: sent more than they got, or very much", len(b.Rows) > openRows, b)
}

func (p *page) asked() {
	b := block{Head: []column{{"name", foreign}, {"types", foreign}, {"times", number}, {"step", foreign}}, More: p.report.Totals.DNSOnly - len(p.report.DNSOnly)}
	for _, q := range p.report.DNSOnly {
		b.Rows = append(b.Rows, line{"?", []string{address(q.Name, 0), end(inert(strings.Join(q.Types, ",")), 40), fmt.Sprint(q.Count), p.by(q.Steps)}})
	}
	for _, f := range p.report.Resolvers {
		b.Rows = append(b.Rows, line{markWarn, []string{address(f.Address, 53) + " instead of the cage's resolver", "dns", fmt.Sprint(f.Count), p.by(f.Steps)}})
	}
	p.table("Only asked for by name (answered in the cage, nothing was sent on)", true, b)
}

func (p *page) allowed() {
	title := "Allowed"
	if p.report.Mode == audit {
		title = "Destinations"
	}
	b := block{Head: []column{{"destination", foreign}, {"protocol", foreign}, {"connections", number}, {"up", number}, {"down", number}, {"rule", foreign}, {"step", foreign}}}
	for _, d := range p.destinations() {
		rule := strings.Join(append([]string{whyReached(d)}, d.Flags...), ", ")
		b.Rows = append(b.Rows, line{markOf(d.Verdict), []string{
			address(d.Host, d.Port), protocol(d.Protocol), fmt.Sprint(d.Connections), size(d.Up), size(d.Down), end(inert(rule), maxWidth), p.by(d.Steps)}})
	}
	p.table(title, p.report.Mode != audit || len(b.Rows) > openRows, b)
}

func markOf(v event.Verdict) string {
	switch v {
	case event.Audited:
		return "+"
	case event.Failed:
		return markWarn
	}
	return markGood
}

func (p *page) cached() {
	b := block{Head: []column{{"step", foreign}, {"where", foreign}, {"how it was judged", foreign}}}
	for _, s := range p.fromCache() {
		b.Rows = append(b.Rows, line{"=", []string{p.title(s.ID, maxWidth), p.place(s.ID), judgedAs(s.Evidence)}})
	}
	p.table("From cache", true, b)
}

func (p *page) fetched() {
	b := block{Head: []column{{"source", foreign}, {"up", number}, {"down", number}, {"from", foreign}}}
	for _, s := range p.report.Sources {
		from, notes := s.from()
		if len(notes) > 0 {
			from = inert(strings.Join(append([]string{from}, notes...), " "))
		}
		b.Rows = append(b.Rows, line{"·", []string{end(inert(s.Ref), maxWidth), size(s.Up), size(s.Down), end(from, 2*maxWidth)}})
	}
	p.table("Fetched by the builder", true, b)
}

// table adds a section of one table, unless that is empty.
func (p *page) table(title string, folded bool, b block) {
	if n := len(b.Rows) + b.More; n > 0 {
		if folded {
			title += fmt.Sprintf(" (%d)", n)
		}
		p.add(section{Title: title, Folded: folded, Blocks: []block{b}})
	}
}
