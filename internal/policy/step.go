package policy

import (
	"fmt"
	"strconv"
	"strings"
)

// Step is what a rule of steps: can select by. The zero value is an unknown
// step; an empty Stage and a Line of 0 are unknown too.
type Step struct {
	Builder bool // the builder's own traffic
	Command string
	Stage   string
	Line    int // first Dockerfile line, 0: unknown
	Secrets bool
	// Undisclosed says that it is not known whether the step has secrets.
	Undisclosed bool
}

// entry is one compiled entry of steps:.
type entry struct {
	spec  *StepSpec
	rules *section
	lines lines
}

type lines struct{ from, to int }

func (l lines) String() string {
	if l.from == 0 {
		return ""
	}
	return strconv.Itoa(l.from) + "-" + strconv.Itoa(l.to)
}

// fit is the answer of a selector.
type fit int

const (
	no    fit = iota
	maybe     // what it selects by is not known of the step
	yes
)

// fit tells whether the entry selects the step: the worst of its selectors.
func (e *entry) fit(s Step) fit {
	unknown := s.Command == ""
	result := yes
	for _, selector := range []struct {
		given, unknown bool
		ok             func() bool
	}{
		{e.spec.Run != "", unknown, func() bool { return wildcard(e.spec.Run, strings.TrimSpace(s.Command)) }},
		{e.spec.Stage != "", s.Stage == "", func() bool { return wildcard(lower(e.spec.Stage), lower(s.Stage)) }},
		{e.lines.from != 0, s.Line == 0, func() bool { return e.lines.from <= s.Line && s.Line <= e.lines.to }},
		{e.spec.Secrets != nil, unknown || s.Undisclosed, func() bool { return *e.spec.Secrets == s.Secrets }},
	} {
		switch {
		case !selector.given:
		case selector.unknown:
			result = min(result, maybe)
		case !selector.ok():
			return no
		}
	}
	return result
}

// For returns what a step may do. The first entry of steps: that selects the
// step decides; without one, the top level does. Where something that an entry
// selects by is not known of the step, the entry counts as one more condition:
// the step may do only what that entry and the deciding one both allow.
func (p *Policy) For(s Step) *Scope {
	if s.Builder {
		if p.builder == nil {
			return &Scope{policy: p}
		}
		return &Scope{policy: p, sections: []*section{p.builder}}
	}
	s.Line = p.line(s)
	scope := &Scope{policy: p}
	for _, e := range p.steps {
		f := e.fit(s)
		if f == no {
			continue
		}
		scope.sections = append(scope.sections, e.rules)
		if f == yes {
			return scope
		}
	}
	scope.sections = append(scope.sections, p.top)
	return scope
}

func (c *compiler) entry(i int, spec *StepSpec) *entry {
	e := &entry{spec: spec}
	e.rules = c.section(&spec.Rules, fmt.Sprintf("steps[%d]", i), spec.Pos)
	e.rules.entry, e.rules.max = i, spec.MaxUpload
	switch spec.Network {
	case "":
	case networkNone:
		e.rules.none = true
		if !spec.Rules.Empty() {
			c.fail(spec.Pos, "network: none and rules in one entry", "remove the rules, or network: none")
		}
	default:
		c.fail(spec.Pos, "network "+quote(spec.Network)+" is unknown", "leave it out, or write network: none")
	}
	if spec.MaxUpload < 0 {
		c.fail(spec.Pos, "max_upload is negative", "write a size such as 1MiB")
	}
	var ok bool
	if e.lines, ok = parseLines(spec.Lines); !ok {
		c.fail(spec.Pos, "lines "+quote(spec.Lines)+" is not a line or a range", "write lines: 12 or lines: 12-20")
	}
	return e
}

func parseLines(s string) (lines, bool) {
	if s == "" {
		return lines{}, true
	}
	from, to, ranged := strings.Cut(s, "-")
	if !ranged {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 31)
	b, errB := strconv.ParseUint(to, 10, 31)
	return lines{int(a), int(b)}, errA == nil && errB == nil && a >= 1 && a <= b
}

// wildcard matches a whole text: * is any run of characters, none included, ?
// is one character. Only the last * is ever retried, so that the time is at
// most the product of both lengths.
func wildcard(pattern, text string) bool {
	p, t, star, mark := 0, 0, -1, 0
	for t < len(text) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, t
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == text[t]):
			if pattern[p] == '?' {
				t += runeLen(text[t:])
			} else {
				t++
			}
			p++
		case star >= 0:
			mark++
			p, t = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

func quote(s string) string { return strconv.Quote(s) }
