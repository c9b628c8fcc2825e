package report

import (
	"fmt"
	"strings"

	"github.com/charmbracelet/lipgloss"
)

// table is rows of cells: a symbol, a destination that may be shortened in the
// middle, and short cells, of which the last is shortened at its end.
type table struct {
	header []string
	rows   []row
}

type row struct {
	style lipgloss.Style // of the symbol
	cells []string
	notes []string // lines below
	by    []string // processes, below the notes
}

func (t *table) add(style lipgloss.Style, notes []string, cells ...string) {
	t.rows = append(t.rows, row{style: style, cells: cells, notes: notes})
}

const (
	maxShort = 12 // columns of a short cell with foreign text
	maxLast  = 24 // room that the last column may take from the destination
)

// table prints at most listLimit rows and says how many there are beyond.
func (t *text) table(tab table, indent string) {
	shown := tab.rows[:min(len(tab.rows), listLimit)]
	if len(shown) == 0 {
		return
	}
	widths := t.widths(tab.header, shown, len(indent))
	if tab.header != nil {
		t.line(indent, t.dim.Render(strings.TrimRight(layout(tab.header, widths), " ")))
	}
	for _, r := range shown {
		line := layout(r.cells, widths)
		symbol := r.cells[0]
		t.line(indent, r.style.Render(symbol), strings.TrimPrefix(line, symbol))
		for _, note := range r.notes {
			t.line(indent, "    ", t.dim.Render(end(inert(note), t.width-len(indent)-4)))
		}
		for _, line := range processLines(r.by, t.width-len(indent)-7) {
			t.line(indent, "    ", t.dim.Render("by "+line))
		}
	}
	if n := len(tab.rows) - len(shown); n > 0 {
		t.line(indent, fmt.Sprintf("and %d more; all of them are in the JSON report", n))
	}
}

// widths fits the columns into the line: short ones get what they need, the
// last up to maxLast, the destination the rest.
func (t *text) widths(header []string, rows []row, indent int) []int {
	widths := make([]int, len(rows[0].cells))
	measure := func(cells []string) {
		for i, c := range cells {
			widths[i] = max(widths[i], lipgloss.Width(c))
		}
	}
	measure(header)
	for _, r := range rows {
		measure(r.cells)
	}
	last := len(widths) - 1
	room := t.width - indent - 2*last
	for i, w := range widths {
		if i != 1 && i != last {
			room -= w
		}
	}
	if widths[1]+widths[last] > room {
		widths[last] = min(widths[last], max(maxLast, room-widths[1]))
		widths[1] = min(widths[1], room-widths[last])
	}
	return widths
}

// layout pads the cells: numbers to the right, the rest to the left.
func layout(cells []string, widths []int) string {
	var b strings.Builder
	for i, c := range cells {
		switch i {
		case 1:
			c = middle(c, widths[i])
		case len(cells) - 1:
			c = end(c, widths[i])
		}
		pad := strings.Repeat(" ", max(0, widths[i]-lipgloss.Width(c)))
		if i > 2 && i < len(cells)-1 {
			c = pad + c
		} else {
			c += pad
		}
		if i > 0 {
			b.WriteString("  ")
		}
		b.WriteString(c)
	}
	return b.String()
}
