package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"

	"github.com/buildcage/buildcage/internal/policy"
)

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
func Text(w io.Writer, r *Report, opts Options) error {
	t := newText(r, opts)
	t.headline()
	t.refused()
	if r.Mode != audit {
		t.suggest()
	}
	t.uploads()
	t.onlyAsked()
	t.reached()
	if r.Mode == audit { // what was seen explains the rules
		t.suggest()
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
	summary
	width int
	brief bool // long lists of rules are cut
	out   strings.Builder

	good, bad, warn, head, dim lipgloss.Style
}

func newText(r *Report, opts Options) *text {
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
		summary: newSummary(r, opts.PerStep), width: min(max(opts.Width, minWidth), maxWidth),
		good: style("28", "78"), bad: style("160", "203"), warn: style("130", "214"), dim: style("241", "246"),
		head: renderer.NewStyle().Bold(opts.Color),
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

// headline is the one line that has to be read, and what is to be known before
// the rest is believed.
func (t *text) headline() {
	mark, line := t.summary.headline()
	style := map[string]lipgloss.Style{markGood: t.good, markBad: t.bad, markWarn: t.warn}[mark]
	if t.report.Outcome == Incomplete {
		style = t.bad
	}
	for i, part := range wrap(line, t.width-2) {
		if i > 0 {
			mark = " "
		}
		t.line(style.Bold(true).Render(mark + " " + part))
	}
	for _, doubt := range t.doubts() {
		t.line("  ", end(doubt, t.width-2))
	}
}

// step describes a step in at most width columns.
func (t *text) step(id string, width int) string {
	suffix := ""
	if at := t.place(id); at != "" {
		suffix = " (" + at + ")"
	}
	return t.title(id, max(10, width-len(suffix))) + suffix
}

func (t *text) footer() {
	r := t.report
	t.line()
	t.line(t.dim.Render(t.totals()))
	if n := t.noise(); n > 0 {
		t.line(t.dim.Render(plural(n, "packet") + " of kernel noise refused, as always"))
	}
	if r.Totals.Lost > 0 {
		t.line(t.warn.Render(fmt.Sprintf("! %s could not be counted; refused packets may be more", plural(r.Totals.Lost, "packet"))))
	}
}
