package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// TextOptions say what the reader's terminal can show.
type TextOptions struct {
	Width int  // columns; less than 80 is taken as 80
	Color bool // false: no escape sequence at all
	Dark  bool // dark background
	// PerStep suggests entries of steps: instead of rules at the top level.
	PerStep bool
}

// minWidth is the narrowest layout; maxWidth the widest that an eye follows.
const (
	minWidth = 80
	maxWidth = 140
)

const audit = string(policy.Audit)

// Text writes r for a person, the answer first: was anything refused, in which
// step, and what to do about it. Words and symbols say what colours say.
//
//	✗ blocked: 2 destinations refused in 1 step; the build itself succeeded
//
//	refused
//	  RUN npm ci (Dockerfile:12, stage deps)
//	    ✗ collector.example.net:443   tls   2×   not-allowed
//
//	to allow what you expect, add to buildcage.yaml
//	  allowed_https_rules:
//	    - collector.example.net:443
//	or once: --allow-https collector.example.net:443
func Text(w io.Writer, r *Report, opts TextOptions) error {
	t := newText(r, opts)
	t.headline()
	t.refused()
	t.uploads()
	t.onlyAsked()
	if r.Mode == audit { // what was seen explains the rules
		t.reached()
		t.suggest()
	} else {
		t.suggest()
		t.reached()
	}
	t.fetched()
	t.cached()
	t.footer()
	if _, err := io.WriteString(w, t.out.String()); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}

// text is one rendering. Everything foreign passes through inert, command or
// address on its way into a line.
type text struct {
	report  *Report
	width   int
	perStep bool
	out     strings.Builder
	steps   map[string]*Step

	good, bad, warn, head, dim lipgloss.Style
}

func newText(r *Report, opts TextOptions) *text {
	renderer := lipgloss.NewRenderer(io.Discard)
	renderer.SetColorProfile(termenv.Ascii)
	if opts.Color {
		renderer.SetColorProfile(termenv.ANSI256)
	}
	renderer.SetHasDarkBackground(opts.Dark)
	style := func(light, dark string) lipgloss.Style {
		return renderer.NewStyle().Foreground(lipgloss.AdaptiveColor{Light: light, Dark: dark})
	}
	t := &text{
		report: r, perStep: opts.PerStep, width: min(max(opts.Width, minWidth), maxWidth), steps: make(map[string]*Step),
		good: style("28", "78"), bad: style("160", "203"), warn: style("130", "214"), dim: style("241", "246"),
		head: renderer.NewStyle().Bold(opts.Color),
	}
	for i := range r.Steps {
		t.steps[r.Steps[i].ID] = &r.Steps[i]
	}
	return t
}

func (t *text) line(parts ...string) {
	t.out.WriteString(strings.TrimRight(strings.Join(parts, ""), " ") + "\n")
}

func (t *text) heading(format string, args ...any) {
	t.line()
	t.line(t.head.Render(fmt.Sprintf(format, args...)))
}

// headline is the one line that has to be read.
func (t *text) headline() {
	r := t.report
	n := t.refusals()
	switch r.Outcome {
	case Clean:
		t.line(t.good.Bold(true).Render("✓ " + t.cleanly()))
	case Refused:
		t.line(t.bad.Bold(true).Render("✗ blocked: " + n + "; the build itself succeeded"))
	case BuildFailed:
		t.line(t.bad.Bold(true).Render(fmt.Sprintf("✗ build failed (exit %d): %s", r.BuildExit, t.blame(n))))
	case Interrupted:
		t.line(t.warn.Bold(true).Render("! interrupted: " + n + " until then"))
	case Incomplete:
		t.line(t.bad.Bold(true).Render("! incomplete: the record of this run can't be relied on"))
	}
	if !r.Complete {
		t.line("  ", end(inert(r.Problem), t.width-2))
		t.line("  what is listed here happened; what is not listed may have happened too")
	}
}

// cleanly says what went on in a run without refusals.
func (t *text) cleanly() string {
	r := t.report
	n := plural(int64(t.reachedCount()), "destination")
	switch {
	case r.Totals.Connections == 0 && r.Totals.Expected == 0:
		return r.what() + ": no step used the network"
	case r.Mode == audit:
		return r.what() + ": " + n + " recorded, " + t.toWrite()
	case len(t.refusedItems()) > 0:
		return r.what() + ": " + n + " allowed, nothing refused but what was expected"
	}
	return r.what() + ": " + n + " allowed, nothing refused"
}

func (r *Report) what() string {
	if r.Mode == audit {
		return "audit"
	}
	return "clean"
}

// blame says whether refusals can be why the build failed.
func (t *text) blame(refusals string) string {
	if t.report.Totals.Refusals > 0 {
		return refusals + ", which may be why"
	}
	return refusals + ", so the cause is not the cage"
}

func (t *text) toWrite() string {
	private := len(t.report.Suggested.AllowPrivate)
	n := plural(int64(t.toAdd()-private), "rule")
	if private > 0 {
		n += " and " + plural(int64(private), "private address range")
	}
	return n + " to add"
}

// refusals says how much was refused, by how many steps.
func (t *text) refusals() string {
	steps := make(map[string]bool)
	n := int64(0)
	for _, item := range t.refusedItems() {
		if !item.expected {
			n++
			for _, id := range item.steps {
				steps[id] = true
			}
		}
	}
	if n == 0 {
		return "nothing was refused"
	}
	return plural(n, "destination") + " refused in " + plural(int64(len(steps)), "step")
}

// noise is how many packets a kernel sent by itself.
func (t *text) noise() int64 {
	n := int64(0)
	for _, d := range t.report.Drops {
		if d.Expected {
			n = event.Add(n, d.Count)
		}
	}
	return n
}

// step describes a step in at most width columns.
func (t *text) step(id string, width int) string {
	s := t.steps[id]
	switch {
	case id == event.BuilderStep:
		return "the builder itself (FROM, ADD, git, cache, push)"
	case s == nil && id == "unknown":
		return "an address that no step owns"
	case s == nil:
		return end("unknown step "+inert(id), width)
	}
	var where []string
	if s.Line > 0 {
		where = append(where, fmt.Sprintf("%s:%d", middle(inert(fileOf(s)), 24), s.Line))
	}
	if s.Stage != "" {
		where = append(where, "stage "+end(inert(s.Stage), 20))
	}
	suffix := ""
	if len(where) > 0 {
		suffix = " (" + strings.Join(where, ", ") + ")"
	}
	return end("RUN "+command(s.Command), max(10, width-len(suffix))) + suffix
}

// fileOf is the Dockerfile of a step.
func fileOf(s *Step) string { return cmp.Or(s.File, "Dockerfile") }

func (t *text) footer() {
	r := t.report
	t.line()
	parts := []string{
		plural(int64(r.Totals.Steps), "step"),
		plural(r.Totals.Connections, "connection"),
		"↑ " + size(r.Totals.Up), "↓ " + size(r.Totals.Down), duration(r.DurationMS),
	}
	t.line(t.dim.Render(strings.Join(parts, " · ")))
	if n := t.noise(); n > 0 {
		t.line(t.dim.Render(plural(n, "packet") + " of kernel noise refused, as always"))
	}
	if r.Totals.Lost > 0 {
		t.line(t.warn.Render(fmt.Sprintf("! %s could not be counted; refused packets may be more", plural(r.Totals.Lost, "packet"))))
	}
}
