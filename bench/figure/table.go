package figure

import (
	"fmt"
	"slices"
	"strings"
)

// Table is the whole result as Markdown.
func Table(rows []Row) string {
	var b strings.Builder
	b.WriteString("| figure | other side | ours: min / median / max | theirs: min / median / max | compared (min … max) | budget | |\n")
	b.WriteString("|---|---|---|---|---|---|---|\n")
	for _, r := range rows {
		verdict := "**miss**"
		if r.Holds() {
			verdict = "pass"
		}
		name := r.Name
		if r.Note != "" {
			name += " — " + r.Note
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s | %s |\n", name, orDash(r.Other),
			spread(r.Ours, r.Unit), spread(r.Theirs, r.Unit), r.compared(), r.Budget, verdict)
	}
	return b.String()
}

func (r Row) compared() string {
	v := r.values()
	if len(v) == 0 {
		return "–"
	}
	show := func(x float64) string {
		switch r.Budget.Kind {
		case Added:
			return fmt.Sprintf("%+.3g %s", x, r.Unit)
		case Absolute:
			return number(x, r.Unit)
		}
		return fmt.Sprintf("%.2f", x)
	}
	if len(v) == 1 {
		return "**" + show(v[0]) + "**"
	}
	return fmt.Sprintf("**%s** (%s … %s)", show(v.Median()), show(slices.Min(v)), show(slices.Max(v)))
}

func spread(s Samples, unit string) string {
	if len(s) == 0 {
		return "–"
	}
	if len(s) == 1 {
		return number(s[0], unit)
	}
	return fmt.Sprintf("%s / %s / %s", number(slices.Min(s), ""), number(s.Median(), ""), number(slices.Max(s), unit))
}

// number shows three significant digits, and large numbers in full.
func number(v float64, unit string) string {
	text := fmt.Sprintf("%.3g", v)
	if v >= 1000 || v <= -1000 {
		text = fmt.Sprintf("%.0f", v)
	}
	if unit == "" {
		return text
	}
	return text + " " + unit
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// Line is the row for a log.
func (r Row) Line() string {
	return fmt.Sprintf("%s: ours %s, theirs %s, compared %s, budget %s", r.Name, spread(r.Ours, r.Unit), spread(r.Theirs, r.Unit), r.compared(), r.Budget)
}
