package report

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// placer puts what was reached where a policy file needs it. Nothing of the
// result is nil.
type placer struct {
	sums    *sums
	policy  *policy.Policy // nil: no entries of steps:
	out     Suggested
	entries map[int]*EntryRules
	steps   ordered[string, StepRules] // by selector
}

func (s *sums) suggestions(p *policy.Policy) Suggested {
	pl := placer{sums: s, policy: p, entries: make(map[int]*EntryRules)}
	pl.out = Suggested{AllowPrivate: []string{}, Entries: []EntryRules{}, Steps: []StepRules{}}
	for _, t := range s.targets.keys {
		pl.place(t)
		if t.private.IsValid() {
			pl.out.AllowPrivate = append(pl.out.AllowPrivate, netip.PrefixFrom(t.private, t.private.BitLen()).String())
		}
	}
	tidy(&pl.out.AllowPrivate)
	pl.out.tidy()
	pl.out.Builder.tidy()
	for _, e := range pl.entries {
		e.tidy()
		pl.out.Entries = append(pl.out.Entries, *e)
	}
	slices.SortFunc(pl.out.Entries, func(a, b EntryRules) int { return a.Entry - b.Entry })
	pl.out.Steps = append(pl.out.Steps, pl.share()...)
	return pl.out
}

// place adds the rule for t to all the lists that need it.
func (pl *placer) place(t target) {
	list, rule := policy.Suggest(t.rule)
	step, known := pl.sums.judged[t.step]
	switch {
	case rule == "":
	case t.step == event.BuilderStep:
		if t.lacked {
			pl.out.Builder.add(list, rule)
		}
	case pl.policy == nil || !known:
		if t.lacked {
			pl.out.add(list, rule)
		}
		if known {
			pl.own(t.step, list, rule)
		}
	default:
		scope := pl.policy.For(step)
		if t.lacked {
			for _, entry := range scope.Lacking(t.rule) {
				pl.section(entry).add(list, rule)
			}
		}
		if !scope.Own() {
			pl.own(t.step, list, rule)
		}
	}
}

// section is the top level for -1, else an entry.
func (pl *placer) section(entry int) *Lists {
	if entry < 0 {
		return &pl.out.Lists
	}
	e := pl.entries[entry]
	if e == nil {
		e = &EntryRules{Entry: entry, Pos: pl.policy.EntryPos(entry)}
		pl.entries[entry] = e
	}
	return &e.Lists
}

// own adds to the entry that the step may get.
func (pl *placer) own(id string, list policy.List, rule string) {
	st := pl.sums.steps.at(id)
	run := selector(st.Command)
	if run == "" {
		return // nothing to select it by
	}
	e := pl.steps.at(run)
	e.Run, e.Selector = event.Escape(run), run
	if !slices.Contains(e.Steps, id) {
		e.Steps = append(e.Steps, id)
		add(&e.Where, whereabouts(st))
	}
	e.add(list, rule)
}

// share returns the entries that steps may get. The first that selects a step
// decides for it, so where that is another's, it gets these rules as well.
func (pl *placer) share() []StepRules {
	spec := policy.Spec{Mode: policy.Restrict}
	for _, run := range pl.steps.keys {
		spec.Steps = append(spec.Steps, policy.StepSpec{Run: run})
	}
	compiled, err := policy.Compile(spec)
	for i, e := range pl.steps.vals {
		if err != nil {
			break // selectors always compile
		}
		for _, id := range e.Steps {
			if first := compiled.For(pl.sums.judged[id]).Entry(); first >= 0 && first < i {
				pl.steps.vals[first].addAll(&e.Lists)
			}
		}
	}
	for _, e := range pl.steps.vals {
		e.tidy()
	}
	return pl.steps.list()
}

// whereabouts of a step, for a comment: "Dockerfile:12, stage deps".
func whereabouts(s *Step) string {
	var parts []string
	if s.Line > 0 {
		parts = append(parts, fmt.Sprintf("%s:%d", fileOf(s), s.Line))
	}
	if s.Stage != "" {
		parts = append(parts, "stage "+s.Stage)
	}
	if len(s.Secrets) > 0 {
		parts = append(parts, "with a secret")
	}
	return inert(strings.Join(parts, ", "))
}

func (l *Lists) add(list policy.List, rule string) {
	if to := l.list(list); to != nil {
		*to = append(*to, rule)
	}
}

func (l *Lists) addAll(other *Lists) {
	for _, key := range policy.AllowLists() {
		*l.list(key) = append(*l.list(key), *other.list(key)...)
	}
}

// tidy sorts the lists; none is nil after it.
func (l *Lists) tidy() {
	for _, key := range policy.AllowLists() {
		tidy(l.list(key))
	}
}

func tidy(list *[]string) {
	slices.Sort(*list)
	*list = some(slices.Compact(*list))
}
