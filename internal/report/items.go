package report

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/buildcage/buildcage/internal/event"
)

// item is one refused thing, whatever it was.
type item struct {
	what, protocol, why string // why is not inert
	reason              event.Reason
	rule                string // that made it expected
	count               int64
	expected            bool
	steps               []string
	notes               []string
	by                  []string // processes
}

// notTCP is the reason of a refused packet, for which there is no other.
const notTCP event.Reason = "not-tcp"

// items are all refusals, the unexpected ones first.
func (s *summary) items() []item {
	var items []item
	for _, d := range s.report.Destinations {
		if d.Verdict != event.Blocked {
			continue
		}
		why := string(d.Reason)
		if d.Rule != "" {
			why += " by " + d.Rule
		}
		items = append(items, item{
			what: address(d.Host, d.Port), protocol: d.Protocol, why: why, reason: d.Reason, rule: d.Rule,
			count: d.Connections, expected: d.Expected, steps: d.Steps, notes: notes(d), by: d.Processes,
		})
	}
	for _, d := range s.report.Drops {
		if !d.Expected { // noise is told in the last line
			host := cmp.Or(d.Name, d.Address)
			items = append(items, item{what: address(host, d.Port), protocol: d.Protocol, why: "not TCP", reason: notTCP, count: d.Count, steps: d.Steps})
		}
	}
	for _, q := range s.report.DNSRefused {
		items = append(items, item{what: address(q.Name, 0), protocol: "dns", why: string(q.Reason), reason: q.Reason, count: q.Count, steps: q.Steps})
	}
	slices.SortStableFunc(items, func(a, b item) int { return order(a.expected) - order(b.expected) })
	return items
}

func order(later bool) int {
	if later {
		return 1
	}
	return 0
}

// notes are what a person needs to tell one refusal from another.
func notes(d Destination) []string {
	var n []string
	if len(d.NameRaw) > 0 {
		n = append(n, "as sent: "+d.NameRaw[0])
	}
	if len(d.Detail) > 0 {
		n = append(n, d.Detail[0])
	}
	return n
}

// group is what one step was refused.
type group struct {
	step  string
	items []item
}

// groups are the refusals under the first step that met them.
func (s *summary) groups() []group {
	var groups ordered[string, group]
	for _, i := range s.items() {
		id := ""
		if len(i.steps) > 0 {
			id = i.steps[0]
		}
		g := groups.at(id)
		g.step = id
		g.items = append(g.items, i)
	}
	return groups.list()
}

// because says why, inert, with what else is to be known of it.
func (i *item) because() string {
	why := inert(i.why)
	if i.expected {
		why = "expected: " + why
	}
	if others := len(i.steps) - 1; others > 0 {
		why += fmt.Sprintf(" (and %s)", plural(int64(others), "other step"))
	}
	return why
}

// destinations are those that were not refused, failed ones first.
func (s *summary) destinations() []Destination {
	return slices.DeleteFunc(slices.Clone(s.report.Destinations), func(d Destination) bool { return d.Verdict == event.Blocked })
}

func (s *summary) reachedCount() int { return len(s.destinations()) }

// whyReached says what let a connection through.
func whyReached(d Destination) string {
	switch {
	case d.Verdict == event.Failed && d.Reason == event.UpstreamError && len(d.Detail) > 0: // says more than the reason
		return "failed: " + d.Detail[0][:min(len(d.Detail[0]), 100)]
	case d.Verdict == event.Failed:
		return "failed: " + string(d.Reason)
	case d.Expected:
		return "known blocked"
	case d.Verdict == event.Audited && (d.Reason == "" || d.Reason == event.NotAllowed || d.Reason == event.IPNotAllowed):
		return "no rule"
	case d.Verdict == event.Audited:
		return string(d.Reason)
	case d.RulePos == "--ask":
		return "allowed once"
	case d.Rule == address(d.Host, d.Port):
		return "exact"
	case d.Rule == "" && slices.Equal(d.Steps, []string{event.BuilderStep}):
		return "builder, not restricted"
	}
	return d.Rule
}

// fromCache are the steps that did not run.
func (s *summary) fromCache() []*Step {
	var list []*Step
	for i := range s.report.Steps {
		if s.report.Steps[i].Cached {
			list = append(list, &s.report.Steps[i])
		}
	}
	return list
}

// judgedAs says what is known of a cached step, inert.
func judgedAs(e *Evidence) string {
	if e == nil || e.Observed == nil {
		return "never observed: what it did is not known" + doubt(e)
	}
	seen := "observed on " + e.Observed.UTC().Format("2006-01-02 15:04 UTC")
	switch e.Verdict {
	case event.EvidenceClean:
		return seen + ": all of it is allowed today"
	case event.EvidenceViolates:
		return seen + ": it did what today's policy refuses"
	}
	return seen + ", but not all that it did is known" + doubt(e)
}

// doubt is why the evidence is not whole, where that is known.
func doubt(e *Evidence) string {
	if e == nil || e.Doubt == "" {
		return ""
	}
	return " (" + end(inert(e.Doubt), maxText) + ")"
}
