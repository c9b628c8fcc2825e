// Package tighten makes a policy smaller: it compares its rules with what runs
// have used, takes out what nothing used, and replaces what is wider than its
// use. It is pure; whether the result is enough is for a build to prove.
//
// It never makes anything wider: every rule of a proposal is a rule of the file,
// or one destination that such a rule allowed in the same list.
package tighten

import (
	"fmt"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/explain"
	"github.com/buildcage/buildcage/internal/lock"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
)

// Change is one rule that a proposal does not keep as it is.
type Change struct {
	Section string   `json:"section"`
	Rule    string   `json:"rule"`
	Why     string   `json:"why"`
	New     []string `json:"new,omitempty"` // what takes its place
}

// Proposal is a smaller file.
type Proposal struct {
	Text    []byte
	Changes []Change
	Notes   []string // what was left alone, and why
}

// maxNarrow is how many single rules may take the place of a pattern.
const maxNarrow = 20

// section is one place with lists, and what is known of its use.
type section struct {
	name  string
	texts policy.RuleTexts
	used  bool // a step of the runs belongs to it
	doubt bool // a step that belongs to it, or may, was not observed
	uses  []policy.Target
}

// tightener compares.
type tightener struct {
	policy   *policy.Policy
	sections []*section // the top level, then the entries of steps:
	out      Proposal
}

// Propose compares a file with runs. Without a change the text is that of the
// file, formatted.
func Propose(path string, data []byte, runs []*report.Report) (*Proposal, error) {
	text, err := config.Format(path, data)
	if err != nil {
		return nil, err
	}
	cfg, err := config.Load(path, text)
	if err != nil {
		return nil, err
	}
	spec := cfg.Spec
	spec.Mode = policy.Restrict
	compiled, err := policy.Compile(spec)
	if err != nil {
		return nil, err
	}
	t := &tightener{policy: compiled}
	t.sections = append(t.sections, &section{name: "the top level", texts: spec.Rules, used: true})
	for i, s := range spec.Steps {
		t.sections = append(t.sections, &section{name: fmt.Sprintf("steps[%d] (%s)", i, explain.Selector(s)), texts: s.Rules})
	}
	for _, r := range runs {
		t.run(r)
	}
	changes := t.compare()
	if spec.Builder != nil && !spec.Builder.Empty() {
		t.note("builder: is left alone: what the builder fetches depends on what the engine has")
	}
	t.out.Text, err = config.Replace(path, text, changes)
	return &t.out, err
}

func (t *tightener) note(text string) {
	if !slices.Contains(t.out.Notes, text) {
		t.out.Notes = append(t.out.Notes, text)
	}
}

// run notes what a run used.
func (t *tightener) run(r *report.Report) {
	if !r.Complete || r.Outcome == report.BuildFailed {
		for _, s := range t.sections {
			s.doubt = true
		}
		t.note("a run did not reach its end, so nothing counts as unused")
	}
	steps := map[string]*section{}
	for _, s := range r.Steps {
		one := t.deciding(s)
		steps[s.ID] = one
		unobserved := s.Cached && (s.Evidence == nil || s.Evidence.Verdict == event.EvidenceMissing)
		for _, section := range t.sections {
			if section == one {
				section.used = true
			}
			section.doubt = section.doubt || unobserved && (one == nil || section == one)
		}
		if unobserved {
			t.note("a step came from the cache without evidence, so the rules for it count as used: run the build with --no-cache")
		}
	}
	for _, d := range r.Destinations {
		if d.Verdict == event.Blocked {
			continue
		}
		targets := lock.Destination{Host: d.Host, Port: d.Port, Protocol: lock.Protocol(d.Protocol)}.Targets()
		for _, id := range d.Steps {
			if id == event.BuilderStep {
				continue
			}
			t.use(steps[id], targets)
		}
	}
}

// deciding is the section that decides for a step; nil where that is not certain.
func (t *tightener) deciding(s report.Step) *section {
	step, ok := lock.Key{Stage: s.Stage, Run: s.Command}.PolicyStep()
	if !ok {
		return nil
	}
	step.Line, step.Secrets, step.Undisclosed = s.Line, len(s.Secrets) > 0, false
	scope := t.policy.For(step)
	switch {
	case scope.Entry() >= 0:
		return t.sections[scope.Entry()+1]
	case scope.Own() || !t.certain(scope):
		return nil
	}
	return t.sections[0]
}

// certain reports whether the top level alone decides: nothing lacks a rule
// anywhere else.
func (t *tightener) certain(scope *policy.Scope) bool {
	probe := policy.Target{Protocol: policy.TLS, Name: "probe.invalid", Port: 1}
	return len(scope.Lacking(probe)) <= 1
}

// use notes a destination where it counts: in the section of its step, in all
// where that is not certain.
func (t *tightener) use(of *section, targets []policy.Target) {
	for _, s := range t.sections {
		if of == nil || s == of {
			s.uses = append(s.uses, targets...)
		}
	}
}

// compare returns the new rules, by the position of the old.
func (t *tightener) compare() map[string][]string {
	changes := map[string][]string{}
	for _, s := range t.sections {
		switch {
		case s.texts.Empty():
			continue
		case !s.used:
			t.note(s.name + " is left alone: no step of the runs belongs to it")
			continue
		}
		for _, l := range policy.AllowLists() {
			t.list(s, l, changes)
		}
	}
	return changes
}

// list compares one list. What a rule is used for is credited to an exact rule
// where there is one, else to the first that matches, as the cage does.
func (t *tightener) list(s *section, l policy.List, changes map[string][]string) {
	var rules []*policy.Rule
	for _, text := range *s.texts.Of(l) {
		if r, err := policy.Parse(l, text); err == nil {
			rules = append(rules, r)
		}
	}
	credit, matched := make([][]string, len(rules)), make([]bool, len(rules))
	for _, target := range s.uses {
		list, exact := policy.Suggest(target)
		if list != l {
			continue
		}
		for i, r := range rules {
			matched[i] = matched[i] || r.Match(target)
		}
		at := slices.IndexFunc(rules, func(r *policy.Rule) bool { return r.Exact() && r.Match(target) })
		if at < 0 {
			at = slices.IndexFunc(rules, func(r *policy.Rule) bool { return r.Match(target) })
		}
		if at >= 0 && !slices.Contains(credit[at], exact) {
			credit[at] = append(credit[at], exact)
		}
	}
	for i, r := range rules {
		slices.Sort(credit[i])
		switch {
		case len(credit[i]) == 0 && covered(rules, i, credit):
			t.change(s, r, "another rule covers it", nil, changes)
		case s.doubt:
		case len(credit[i]) == 0 && matched[i]:
			t.change(s, r, "other rules allow all that runs used it for", nil, changes)
		case len(credit[i]) == 0:
			t.change(s, r, "no run used it", nil, changes)
		case r.Exact():
		case len(credit[i]) > maxNarrow:
			t.note(fmt.Sprintf("%s of %s is left alone: %d destinations used it", r.Raw(), s.name, len(credit[i])))
		default:
			t.change(s, r, "wider than its use", credit[i], changes)
		}
	}
}

// covered reports whether rule i is a part of one that stays.
func covered(rules []*policy.Rule, i int, credit [][]string) bool {
	for k, o := range rules {
		if k != i && len(credit[k]) > 0 && o.Covers(rules[i]) && !(rules[i].Covers(o) && k > i) {
			return true
		}
	}
	return false
}

func (t *tightener) change(s *section, r *policy.Rule, why string, by []string, changes map[string][]string) {
	changes[r.Pos] = by
	t.out.Changes = append(t.out.Changes, Change{Section: s.name, Rule: r.Raw(), Why: why, New: by})
}

// String is the change for a person.
func (c Change) String() string {
	text := fmt.Sprintf("%s: %s: %s", c.Section, c.Rule, c.Why)
	if len(c.New) > 0 {
		text += ", which is " + strings.Join(c.New, " ")
	}
	return text
}
