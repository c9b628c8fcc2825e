package battery

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/buildcage/buildcage/test/e2e/lab"
)

// Select is the environment variable that says which cases run: smoke (the
// default), all, or ids and groups separated by commas.
const Select = "BUILDCAGE_BATTERY"

// TableFile is the environment variable that names the file for the table. The
// rows of the cases that ran are replaced, the others stay.
const TableFile = "BUILDCAGE_BATTERY_TABLE"

// labWait is how long another lab on this machine may keep this one waiting.
const labWait = 30 * time.Minute

func selected(c *Case) bool {
	choice := os.Getenv(Select)
	switch choice {
	case "all":
		return true
	case "", "smoke":
		return c.Smoke
	}
	return slices.Contains(strings.Split(choice, ","), c.ID) || slices.Contains(strings.Split(choice, ","), c.Group)
}

// named says that cases were chosen by name.
func named() bool {
	choice := os.Getenv(Select)
	return choice != "" && choice != "smoke" && choice != "all"
}

func load(t *testing.T) []*Case {
	t.Helper()
	cases, err := Load(".")
	if err != nil && !named() {
		t.Error(err)
	} else if err != nil {
		t.Log(err) // somebody else's, unless it is missed below
	}
	if len(cases) == 0 {
		t.Fatal("no cases found")
	}
	return cases
}

// TestBattery is the battery.
func TestBattery(t *testing.T) {
	if os.Getenv(lab.Gate) != "1" {
		t.Skipf("set %s=1 and run as root to run the battery (make battery does)", lab.Gate)
	}
	cases := slices.DeleteFunc(load(t), func(c *Case) bool { return !selected(c) })
	if len(cases) == 0 {
		t.Fatalf("%s=%s selects no case", Select, os.Getenv(Select))
	}
	if named() {
		missing(t, cases)
	}
	b := open(t)
	suite := &suite{Battery: b}
	for _, c := range cases {
		if c.Control {
			suite.controls = append(suite.controls, c)
			continue
		}
		t.Run(c.ID, func(t *testing.T) { suite.run(t, c) })
	}
	for _, c := range suite.controls {
		t.Run(c.ID, func(t *testing.T) { suite.control(t, c) })
	}
	suite.finish(t)
}

// missing fails the test for names that no case has: a broken or misspelled one.
func missing(t *testing.T, cases []*Case) {
	t.Helper()
	for name := range strings.SplitSeq(os.Getenv(Select), ",") {
		if !slices.ContainsFunc(cases, func(c *Case) bool { return c.ID == name || c.Group == name }) {
			t.Errorf("%s: there is no case %s that can be read", Select, name)
		}
	}
}

func open(t *testing.T) *Battery {
	t.Helper()
	repo, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	b := &Battery{Binary: filepath.Join(repo, "bin", "buildcage"), Log: t.Logf}
	if _, err := os.Stat(b.Binary); err != nil {
		t.Fatalf("%v: run make build first", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), labWait)
	defer cancel()
	if b.Lab, err = lab.Start(ctx, repo); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Lab.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// suite collects the rows of the table.
type suite struct {
	*Battery
	rows     []Row
	controls []*Case
	missed   []string // cases that did not leak on the uncaged builder
	leaked   int
}

func (s *suite) run(t *testing.T, c *Case) {
	row := Row{Case: c, Verdicts: make(map[Mode]string)}
	for _, mode := range c.Modes {
		ok := t.Run(string(mode), func(t *testing.T) {
			b := *s.Battery
			b.Log = t.Logf
			start := time.Now()
			r, err := b.Caged(t.Context(), c, mode, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range r.Problems {
				t.Error(p)
			}
			row.Checks.Traffic += r.Checks.Traffic
			row.Checks.Record += r.Checks.Record
			row.Checks.Live += r.Checks.Live
			t.Logf("%.1fs", time.Since(start).Seconds())
		})
		row.Verdicts[mode] = verdictOf(ok)
	}
	if c.Leak {
		ok := t.Run(string(Uncaged), func(t *testing.T) {
			b := *s.Battery
			b.Log = t.Logf
			leaks, _, err := b.Control(t.Context(), c, t.TempDir())
			if err != nil {
				s.missed = append(s.missed, c.ID)
				t.Fatal(err)
			}
			s.leaked++
			row.Leaks = len(leaks)
			t.Log(strings.Join(leaks, "\n"))
		})
		row.Verdicts[Uncaged] = verdictOf(ok)
	}
	s.rows = append(s.rows, row)
}

func verdictOf(ok bool) string {
	if ok {
		return "pass"
	}
	return "fail"
}

// control is CTL-07: every case that denies something leaked without a cage.
func (s *suite) control(t *testing.T, c *Case) {
	row := Row{Case: c, Verdicts: make(map[Mode]string), Leaks: s.leaked}
	if len(s.missed) > 0 {
		t.Errorf("these cases see no leak where there is one: %v", s.missed)
	}
	if s.leaked == 0 {
		t.Error("no case was run without a cage")
	}
	row.Verdicts[Uncaged] = verdictOf(!t.Failed())
	s.rows = append(s.rows, row)
}

func (s *suite) finish(t *testing.T) {
	table := Table(s.rows)
	if err := os.WriteFile(filepath.Join(s.Lab.Dir(), "battery.txt"), []byte(plain(table)), 0o644); err != nil {
		t.Error(err)
	}
	t.Log("\n" + plain(table))
	file := os.Getenv(TableFile)
	if file == "" {
		return
	}
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte(Table(Fill(s.rows, load(t), string(before)))), 0o644); err != nil {
		t.Error(err)
	}
}

// plain is the table for a terminal: without links.
func plain(table string) string {
	var b strings.Builder
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "| [") {
			continue
		}
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		id, _, _ := strings.Cut(strings.TrimLeft(cells[0], " ["), "]")
		title := cells[2]
		if len(title) > 50 {
			title = title[:49] + "…"
		}
		fmt.Fprintf(&b, "%-8s %s %-52s %-12s %-12s t%-3s r%-3s l%-2s %s\n", id, cells[1], title, cells[3], cells[4], cells[5], cells[6], cells[7], cells[8])
	}
	return b.String()
}

// TestTableNamesEveryCase keeps docs/battery.md in step with the directory.
func TestTableNamesEveryCase(t *testing.T) {
	data, err := os.ReadFile("../../../docs/battery.md")
	if err != nil {
		t.Fatal(err)
	}
	text := string(data)
	for _, c := range load(t) {
		want := fmt.Sprintf("| [%s](../test/e2e/battery/%s/%s.txtar) | %s | %s |", c.ID, c.Group, c.ID, c.Priority, cell(c.Title))
		if !strings.Contains(text, want) {
			t.Errorf("docs/battery.md lacks %s; make battery writes it", want)
		}
	}
	if n := strings.Count(text, "\n| ["); n != len(load(t)) {
		t.Errorf("docs/battery.md has %d cases, the directory %d", n, len(load(t)))
	}
	if strings.Contains(text, "| fail |") {
		t.Error("docs/battery.md was written by a run that failed")
	}
}
