package check

import (
	"fmt"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/policy"
)

// section is one set of lists.
type section struct {
	name  string
	texts policy.RuleTexts
}

func (c *checker) sections() []section {
	spec := &c.cfg.Spec
	all := []section{{"the top level", spec.Rules}}
	for i, s := range spec.Steps {
		all = append(all, section{fmt.Sprintf("steps[%d]", i), s.Rules})
	}
	if spec.Builder != nil {
		all = append(all, section{"builder", *spec.Builder})
	}
	return all
}

// rules looks at every list of every section.
func (c *checker) rules() {
	blocked := parsed(policy.BlockedRules, c.cfg.Spec.KnownBlocked)
	for _, s := range c.sections() {
		for _, l := range policy.AllowLists() {
			rules := parsed(l, *s.texts.Of(l))
			for _, r := range rules {
				for _, b := range breadthOf(r) {
					c.add(b.code, r.Pos, r.Raw(), b.message, b.hint)
				}
				c.blocked(r, blocked)
			}
			c.shadowed(rules)
		}
	}
	c.shadowed(blocked)
	c.shadowed(parsed(policy.PrivateRules, c.cfg.Spec.AllowPrivate))
	c.dots()
}

// blocked: a known_blocked rule wins over any allow rule.
func (c *checker) blocked(r *policy.Rule, blocked []*policy.Rule) {
	for _, b := range blocked {
		if b.Covers(r) {
			c.add("blocked-rule", r.Pos, r.Raw(), fmt.Sprintf("allows nothing: %q at %s refuses all of it", b.Raw(), b.Pos), "remove one of the two")
			return
		}
	}
}

// shadowed tells of rules that change nothing, at the one to remove.
func (c *checker) shadowed(rules []*policy.Rule) {
	gone := make([]bool, len(rules))
	for i, r := range rules {
		for j, o := range rules {
			if i == j || gone[j] || !o.Covers(r) || r.Covers(o) && i < j {
				continue
			}
			gone[i] = true
			if r.String() == o.String() {
				c.add("duplicate-rule", r.Pos, r.Raw(), "stands at "+o.Pos+" already", "remove one of the two")
			} else {
				c.add("shadowed-rule", r.Pos, r.Raw(), fmt.Sprintf("changes nothing: %q at %s covers it", o.Raw(), o.Pos), "remove it, or the wider rule")
			}
			break
		}
	}
}

// dots are the policy's own warnings that breadthOf does not give.
func (c *checker) dots() {
	for _, w := range c.policy.Warnings() {
		switch {
		case strings.Contains(w.Msg, "regex"):
			if !slices.ContainsFunc(c.findings, func(f Finding) bool { return f.Pos == w.Pos }) {
				c.add("regex-dot", w.Pos, w.Rule, w.Msg, w.Hint())
			}
		case w.Rule == "":
			c.add("hidden-entry", w.Pos, "", w.Msg, w.Hint())
		}
	}
}

// parsed parses rules that are known to be valid.
func parsed(l policy.List, texts []policy.Text) []*policy.Rule {
	var rules []*policy.Rule
	for _, t := range texts {
		if r, err := policy.Parse(l, t); err == nil {
			rules = append(rules, r)
		}
	}
	return rules
}
