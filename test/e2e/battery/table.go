package battery

import (
	"fmt"
	"slices"
	"strings"
)

// Row is what the battery says about a case.
type Row struct {
	Case     *Case
	Verdicts map[Mode]string // pass, fail, or empty for not run
	Checks   Checks          // of both modes together
	Leaks    int
	earlier  string // the whole line of an earlier run, for a case that this one left out
}

// Fill adds the cases that this run left out, with what an earlier table says
// of them: a case that was never run says so.
func Fill(rows []Row, all []*Case, table string) []Row {
	ran := make(map[string]bool)
	for _, r := range rows {
		ran[r.Case.ID] = true
	}
	for _, c := range all {
		if ran[c.ID] {
			continue
		}
		row := Row{Case: c}
		row.earlier = row.head() + " not run | not run | 0 | 0 | 0 | – |\n"
		for line := range strings.Lines(table) {
			if strings.HasPrefix(line, row.head()) {
				row.earlier = line
			}
		}
		rows = append(rows, row)
	}
	return rows
}

func (r *Row) head() string {
	return fmt.Sprintf("| [%s](../test/e2e/battery/%s/%s.txtar) | %s | %s |",
		r.Case.ID, r.Case.Group, r.Case.ID, r.Case.Priority, cell(r.Case.Title))
}

// Table is docs/battery.md: everything in it is the same on every machine.
func Table(rows []Row) string {
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Case.ID, b.Case.ID) })
	var b strings.Builder
	b.WriteString(`<!-- Written by make battery. -->
# The attack battery

Each case is one file in [test/e2e/battery](../test/e2e/battery); [adding-a-case.md](adding-a-case.md)
says how to write one. It passes only when three oracles agree: traffic (sink, origin, resolver and a capture of
the uplink count what was sent), record (the events, all of them) and liveness (an allowed fetch passes and a denied one
fails behind the case, in the same cage). "leaks" in the last column: without a cage the same case
does reach what it must not, and the oracles see it.

| case | priority | what it does | restrict | audit | traffic | record | liveness | uncaged |
|---|---|---|---|---|---:|---:|---:|---|
`)
	failed, left := 0, 0
	for _, r := range rows {
		line := r.earlier
		if line == "" {
			line = fmt.Sprintf("%s %s | %s | %d | %d | %d | %s |\n", r.head(), r.verdict(Restrict), r.verdict(Audit),
				r.Checks.Traffic, r.Checks.Record, r.Checks.Live, r.verdict(Uncaged))
		}
		b.WriteString(line)
		switch verdicts := strings.TrimPrefix(line, r.head()); {
		case strings.Contains(verdicts, "fail"):
			failed++
		case strings.Contains(verdicts, "not run"):
			left++
		}
	}
	fmt.Fprintf(&b, "\n%d cases: %d passed, %d failed, %d not run.\n", len(rows), len(rows)-failed-left, failed, left)
	gaps(&b, rows)
	return b.String()
}

func gaps(b *strings.Builder, rows []Row) {
	head := "\n## Known gaps, pinned\n\n"
	for _, r := range rows {
		if r.Case.Gap != "" {
			fmt.Fprintf(b, "%s- %s: %s\n", head, r.Case.ID, r.Case.Gap)
			head = ""
		}
	}
}

func (r *Row) verdict(m Mode) string {
	v := r.Verdicts[m]
	switch {
	case v == "":
		return "–"
	case v == "pass" && m == Uncaged:
		return "leaks"
	case v == "pass" && r.Case.Gap != "":
		return "gap, pinned"
	}
	return v
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
