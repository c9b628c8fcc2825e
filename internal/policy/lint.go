package policy

import (
	"regexp/syntax"
	"strings"
)

// Warnings are what a Policy allows and its author may not have meant: rules
// that are very wide, and entries of steps: that nothing can reach. They
// are no errors: the policy does what it says.
func (p *Policy) Warnings() []*Error {
	var found []*Error
	sections := []*section{p.top}
	catchAll := false
	for _, e := range p.steps {
		if catchAll {
			found = append(found, NewError(e.spec.Pos, "an entry before this one selects every step",
				"move the entry without selectors to the end of steps:"))
		}
		s := e.spec
		catchAll = catchAll || s.Run == "" && s.Stage == "" && s.Lines == "" && s.Secrets == nil
		sections = append(sections, e.rules)
	}
	if p.builder != nil {
		sections = append(sections, p.builder)
	}
	for _, s := range sections {
		for _, l := range AllowLists() {
			for _, r := range s.lists[l].rules {
				for _, f := range r.wide() {
					found = append(found, &Error{Pos: r.Pos, Rule: r.raw, Msg: f.msg, hint: f.hint})
				}
			}
		}
	}
	return found
}

// wide says in what ways a rule is wider than most people mean.
func (r *Rule) wide() []*fault {
	var faults []*fault
	switch {
	case r.regex != nil:
		if loneDot(r.regex.tree, false) {
			faults = append(faults, faultf(`write \. for a dot`, "a dot in a regex matches any character"))
		}
		return faults
	case r.host != nil && strings.Trim(r.host.text, "*?.") == "":
		faults = append(faults, faultf("name the domains that the build needs", "allows every name"))
	case r.host != nil && r.host.suffix != "" && SingleLabel(r.host.suffix):
		faults = append(faults, faultf("name the domains that the build needs", "allows a whole top-level domain"))
	case r.host == nil && r.net.Bits() < wideBits(r):
		faults = append(faults, faultf("name the networks that the build needs", "allows a very large network"))
	}
	if r.ports.any {
		faults = append(faults, faultf("name the ports that the build needs", "allows every port"))
	}
	return faults
}

func wideBits(r *Rule) int {
	if r.net.Addr().Is6() {
		return 32
	}
	return 8
}

// loneDot reports whether a regex has a dot that is not repeated: repeated
// ones, as in .*, are meant.
func loneDot(tree *syntax.Regexp, repeated bool) bool {
	switch tree.Op {
	case syntax.OpAnyChar, syntax.OpAnyCharNotNL:
		return !repeated
	case syntax.OpStar, syntax.OpPlus, syntax.OpQuest, syntax.OpRepeat:
		repeated = true
	case syntax.OpConcat:
		repeated = false
	}
	for _, sub := range tree.Sub {
		if loneDot(sub, repeated) {
			return true
		}
	}
	return false
}
