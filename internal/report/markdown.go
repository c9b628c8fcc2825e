package report

import (
	"fmt"
	"io"
	"strings"
)

// SummaryLimit is how many bytes GitHub takes as the summary of a step.
const SummaryLimit = 1 << 20

// Markdown writes r for a job summary: the answer open, long lists folded, and
// never more than the room there is. Foreign text stands in code spans only,
// where Markdown gives no character a meaning, and HTML neither.
func Markdown(w io.Writer, r *Report, opts Options) error {
	room := SummaryLimit
	if opts.Room > 0 {
		room = min(room, opts.Room)
	}
	for _, rows := range []int{1000, 200, 50, 10, 1} {
		if out := markdown(newPage(r, opts.PerStep, rows)); len(out) <= room {
			return write(w, out)
		}
	}
	mark, line := newPage(r, opts.PerStep, 1).headline()
	out := fmt.Sprintf("## %s buildcage: %s\n", mark, code(line))
	if len(out) > room {
		return fmt.Errorf("writing the report: there is room for %d bytes only", room)
	}
	return write(w, out)
}

func markdown(p *page) string {
	var b strings.Builder
	fmt.Fprintf(&b, "## %s buildcage: %s\n\n", p.Mark, plainly(p.Headline))
	if len(p.Doubts) > 0 {
		b.WriteString("> **This report is incomplete.** " + code(p.Doubts[0]) + "  \n")
		for _, doubt := range p.Doubts[1:] {
			b.WriteString("> " + doubt + "\n")
		}
		b.WriteString("\n")
	}
	for _, s := range p.Sections {
		if s.Folded {
			fmt.Fprintf(&b, "<details><summary>%s</summary>\n\n", s.Title)
		} else {
			fmt.Fprintf(&b, "### %s\n\n", s.Title)
		}
		for _, block := range s.Blocks {
			block.markdown(&b)
		}
		if s.Note != "" {
			b.WriteString(s.Note + "\n\n")
		}
		if s.Folded {
			b.WriteString("</details>\n\n")
		}
	}
	b.WriteString(strings.Join(p.Footer, " · ") + "\n")
	return b.String()
}

func (block *block) markdown(b *strings.Builder) {
	if block.Lead != "" {
		b.WriteString("**" + code(block.Lead) + "**")
		if block.Place != "" {
			b.WriteString(" at " + code(block.Place))
		}
		b.WriteString("\n\n")
	}
	if block.Code != "" {
		b.WriteString("```yaml\n" + block.Code + "```\n\n")
	}
	if len(block.Rows) > 0 {
		block.table(b)
	}
	if block.More > 0 {
		fmt.Fprintf(b, "and %d more; all of them are in the JSON report\n\n", block.More)
	}
}

func (block *block) table(b *strings.Builder) {
	head, rule := "| ", "|---"
	for _, c := range block.Head {
		head += "| " + c.Name + " "
		if c.Kind == number {
			rule += "|--:"
		} else {
			rule += "|---"
		}
	}
	b.WriteString(head + "|\n" + rule + "|\n")
	for _, r := range block.Rows {
		b.WriteString("| " + r.Mark + " ")
		for i, cell := range r.Cells {
			if block.Head[i].Kind == foreign {
				cell = cellCode(cell)
			}
			b.WriteString("| " + cell + " ")
		}
		b.WriteString("|\n")
	}
	b.WriteString("\n")
}

// cellCode is a code span in a table, where a bar has to be escaped even so. A
// backslash of inert text stands before an x or a dot, so none joins with that.
func cellCode(s string) string { return strings.ReplaceAll(code(s), "|", `\|`) }

// code is a code span with s in it.
func code(s string) string {
	if s == "" {
		return ""
	}
	longest, run := 0, 0
	for _, c := range s {
		if c == '`' {
			run++
		} else {
			run = 0
		}
		longest = max(longest, run)
	}
	fence, pad := strings.Repeat("`", longest+1), ""
	if strings.HasPrefix(s, "`") || strings.HasSuffix(s, "`") || strings.HasPrefix(s, " ") && strings.HasSuffix(s, " ") {
		pad = " "
	}
	return fence + pad + s + pad + fence
}

// plainly is our own sentence, in which the name of a file may be foreign: what
// Markdown could take for its own, a dot in a name included, becomes a
// character reference. An at sign would make an address of its surroundings
// even then.
func plainly(s string) string {
	var b strings.Builder
	for i, c := range s {
		switch {
		case c == '@':
			b.WriteString("&#92;x40")
		case strings.ContainsRune("\\`*_{}[]<>#!|~$&", c), c == '.' && i > 0 && letter(s[i-1]), c == ':' && !strings.HasPrefix(s[i:], ": "):
			fmt.Fprintf(&b, "&#%d;", c)
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func letter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' }
