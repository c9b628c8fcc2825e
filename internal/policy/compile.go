package policy

import "slices"

const (
	echAllow    = "allow"
	networkNone = "none"

	builderSection = "builder"
)

// section is one set of allow lists: the top level, a step entry, the builder.
type section struct {
	name  string // as a person finds it: "steps[2]", "builder", "" for the top level
	pos   string
	entry int // index of a step entry, -1 otherwise
	none  bool
	max   int64
	lists map[List]*index
}

// compiler collects the errors of a Spec.
type compiler struct{ errs Errors }

// Compile checks a Spec and makes it a Policy. The error is an Errors that
// holds everything wrong with it.
func Compile(spec Spec) (*Policy, error) {
	var c compiler
	if spec.Mode == "" {
		spec.Mode = Restrict
	}
	if spec.Mode != Restrict && spec.Mode != Audit {
		c.fail("", "mode "+quote(string(spec.Mode))+" is unknown", "mode is restrict or audit")
	}
	if spec.ECH != "" && spec.ECH != echAllow {
		c.fail("", "ech "+quote(spec.ECH)+" is unknown", "leave it out, or write ech: allow")
	}
	p := &Policy{spec: spec}
	p.top = c.section(&spec.Rules, "", "")
	p.blocked = newIndex(c.rules(BlockedRules, spec.KnownBlocked))
	p.private = c.rules(PrivateRules, spec.AllowPrivate)
	for i := range spec.Steps {
		p.steps = append(p.steps, c.entry(i, &spec.Steps[i]))
	}
	if spec.Builder != nil {
		p.builder = c.section(spec.Builder, builderSection, "")
	}
	if len(c.errs) > 0 {
		return nil, c.errs
	}
	digest, err := p.hash()
	if err != nil {
		return nil, err
	}
	p.digest = digest
	return p, nil
}

func (c *compiler) fail(pos, msg, hint string) {
	c.errs = append(c.errs, NewError(pos, msg, hint))
}

func (c *compiler) section(texts *RuleTexts, name, pos string) *section {
	s := &section{name: name, pos: pos, entry: -1, lists: map[List]*index{}}
	for _, l := range AllowLists() {
		s.lists[l] = newIndex(c.rules(l, *texts.Of(l)))
	}
	return s
}

func (c *compiler) rules(l List, texts []Text) []*Rule {
	rules := make([]*Rule, 0, len(texts))
	size := 0
	for _, t := range texts {
		r, err := Parse(l, t)
		if err != nil {
			c.errs = append(c.errs, err.(*Error)) //nolint:errorlint // Parse's contract
			continue
		}
		if r.regex != nil {
			before := size
			size += r.regex.size
			if before <= maxRegexes && size > maxRegexes {
				c.errs = append(c.errs, &Error{Pos: t.Pos, Rule: t.Text,
					Msg:  "too many regex rules in " + string(l),
					hint: "write host patterns with * and ** instead; they are faster and of any number"})
			}
		}
		rules = append(rules, r)
	}
	return slices.Clip(rules)
}
