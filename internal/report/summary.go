package report

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// summary is what every format for people says of a Report, in the same words.
type summary struct {
	report  *Report
	perStep bool
	steps   map[string]*Step
}

func newSummary(r *Report, perStep bool) summary {
	s := summary{report: r, perStep: perStep, steps: make(map[string]*Step)}
	for i := range r.Steps {
		s.steps[r.Steps[i].ID] = &r.Steps[i]
	}
	return s
}

// Marks stand before a line, so that no colour has to say it.
const (
	markGood = "✓"
	markBad  = "✗"
	markWarn = "!"
)

// headline is the one line that has to be read: was anything refused, and where.
func (s *summary) headline() (mark, line string) {
	r := s.report
	n := s.refusals()
	switch r.Outcome {
	case Clean:
		return markGood, s.cleanly()
	case Refused:
		return markBad, "blocked: " + n + "; the build itself succeeded"
	case BuildFailed:
		return markBad, fmt.Sprintf("build failed (exit %d): %s", r.BuildExit, s.blame(n))
	case Interrupted:
		return markWarn, "interrupted: " + n + " until then"
	}
	return markWarn, "incomplete: the record of this run can't be relied on"
}

// doubts say why the record is not all that there was.
func (s *summary) doubts() []string {
	if s.report.Complete {
		return nil
	}
	return []string{inert(s.report.Problem), "what is listed here happened; what is not listed may have happened too"}
}

// cleanly says what went on in a run without refusals.
func (s *summary) cleanly() string {
	r := s.report
	n := plural(int64(s.reachedCount()), "destination")
	switch {
	case r.Totals.Connections == 0 && r.Totals.Expected == 0:
		return r.what() + ": no step used the network"
	case r.Mode == audit:
		return r.what() + ": " + n + " recorded, " + s.toWrite()
	case len(s.items()) > 0:
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
func (s *summary) blame(refusals string) string {
	if s.report.Totals.Refusals > 0 {
		return refusals + ", which may be why"
	}
	return refusals + ", so the cause is not the cage"
}

func (s *summary) toWrite() string {
	private := len(s.report.Suggested.AllowPrivate)
	n := plural(int64(s.toAdd()-private), "rule")
	if private > 0 {
		n += " and " + plural(int64(private), "private address range")
	}
	return n + " to add"
}

// toAdd is how many rules there are to add.
func (s *summary) toAdd() int {
	rules := &s.report.Suggested
	n := rules.Builder.rules() + len(rules.AllowPrivate)
	if s.perStep {
		for _, e := range rules.Steps {
			n += e.rules()
		}
	} else {
		n += rules.rules()
	}
	for _, e := range rules.Entries {
		n += e.rules()
	}
	return n
}

// refusals says how much was refused, by how many steps, or by which
// line where it is one.
func (s *summary) refusals() string {
	steps := make(map[string]bool)
	var lines []string
	n := int64(0)
	for _, item := range s.items() {
		if item.expected {
			continue
		}
		n++
		for _, id := range item.steps {
			steps[id] = true
			if at := s.at(id); at != "" && !slices.Contains(lines, at) {
				lines = append(lines, at)
			}
		}
	}
	if n == 0 {
		return "nothing was refused"
	}
	what := plural(n, "destination") + " refused "
	if len(steps) == 1 && len(lines) == 1 {
		return what + "at " + lines[0]
	}
	return what + "in " + plural(int64(len(steps)), "step")
}

// noise is how many packets a kernel sent by itself.
func (s *summary) noise() int64 {
	n := int64(0)
	for _, d := range s.report.Drops {
		if d.Expected {
			n = event.Add(n, d.Count)
		}
	}
	return n
}

// at is the place of a step in short: "Dockerfile:12"; empty where it is not known.
func (s *summary) at(id string) string {
	st := s.steps[id]
	if st == nil || st.Line <= 0 {
		return ""
	}
	return fmt.Sprintf("%s:%d", middle(inert(fileOf(st)), 24), st.Line)
}

// hasSecret reports whether a step has a secret or an agent of ssh, which is
// what it would be worth to send out.
func (s *summary) hasSecret(id string) bool {
	st := s.steps[id]
	return st != nil && len(st.Secrets) > 0
}

// secret is a sentence about that.
func (s *summary) secret(id string) string {
	if !s.hasSecret(id) {
		return ""
	}
	return " The step has a secret."
}

// place is at, the stage, and whether there is a secret.
func (s *summary) place(id string) string {
	var where []string
	if at := s.at(id); at != "" {
		where = append(where, at)
	}
	room := 20
	if s.hasSecret(id) {
		room = 12
	}
	if st := s.steps[id]; st != nil && st.Stage != "" {
		where = append(where, "stage "+end(inert(st.Stage), room))
	}
	if s.hasSecret(id) {
		where = append(where, "with a secret")
	}
	return strings.Join(where, ", ")
}

// title is what a step does: its command in at most width columns.
func (s *summary) title(id string, width int) string {
	st := s.steps[id]
	switch {
	case id == event.BuilderStep:
		return "the builder itself (FROM, ADD, git, cache, push)"
	case st == nil && id == "unknown", id == "":
		return "an address that no step owns"
	case st == nil:
		return end("unknown step "+inert(id), width)
	}
	return end("RUN "+command(st.Command), width)
}

// fileOf is the Dockerfile of a step.
func fileOf(s *Step) string { return cmp.Or(s.File, "Dockerfile") }

// source is the file of a step as a repository knows it, and its line; 0: unknown.
func (s *summary) source(id string) (file string, line int) {
	file = s.report.Dockerfile
	st := s.steps[id]
	if st == nil {
		return cmp.Or(file, "Dockerfile"), 0
	}
	if file == "" || st.File != "" && path.Base(st.File) != path.Base(file) {
		file = fileOf(st)
	}
	return file, max(st.Line, 0)
}

// program is the version of the program that ran. The one in the cage has none
// of its own; records of tests may know no other.
func program(r *Report) string { return cmp.Or(r.Versions["cli"], r.Versions["caged"]) }

// totals are the run in numbers.
func (s *summary) totals() string {
	r := s.report
	return strings.Join([]string{
		plural(int64(r.Totals.Steps), "step"),
		plural(r.Totals.Connections, "connection"),
		"↑ " + size(r.Totals.Up), "↓ " + size(r.Totals.Down), duration(r.DurationMS),
	}, " · ")
}

// by is the first of steps, in short.
func (s *summary) by(steps []string) string {
	if len(steps) == 0 {
		return ""
	}
	short := s.at(steps[0])
	if short == "" {
		short = s.title(steps[0], maxLast)
	}
	if others := len(steps) - 1; others > 0 {
		short += fmt.Sprintf(" and %d more", others)
	}
	return short
}
