// Package explain answers for one destination which rule of a policy decides,
// and what to add where none allows it. It is pure: it judges with the policy
// that a build would run with, resolves nothing and asks nobody.
package explain

import (
	"net/netip"
	"strings"

	"github.com/buildcage/buildcage/internal/policy"
)

// Question is a destination and who wants to go there.
type Question struct {
	Target Target
	// Step is who asks; nil: a step that no entry of steps: selects.
	Step *policy.Step
}

// Answer is what a policy says. Its JSON form only grows.
type Answer struct {
	Target   string `json:"target"`
	Protocol string `json:"protocol"` // https, http, tcp, ip
	Allowed  bool   `json:"allowed"`
	Why      string `json:"why"`
	Reason   string `json:"reason,omitempty"` // as in the record
	Rule     string `json:"rule,omitempty"`
	List     string `json:"list,omitempty"`
	Pos      string `json:"pos,omitempty"` // of the rule, else of the section that lacks one
	Section  string `json:"section"`       // "top level", "steps[1]", "builder"
	// Add is what would allow it; nil where nothing has to or can be added.
	Add   *Addition `json:"add,omitempty"`
	Steps []Entry   `json:"steps,omitempty"` // entries of steps: that answer otherwise
	Notes []string  `json:"notes,omitempty"`
}

// Addition is a rule to add.
type Addition struct {
	Section string `json:"section"`
	List    string `json:"list"`
	Rule    string `json:"rule"`
	Line    string `json:"line"`           // as it stands in the file
	Flag    string `json:"flag,omitempty"` // for one run
}

// Entry is what one entry of steps: says.
type Entry struct {
	Index    int    `json:"index"`
	Pos      string `json:"pos,omitempty"`
	Selector string `json:"selector"`
	Allowed  bool   `json:"allowed"`
	Rule     string `json:"rule,omitempty"`
	RulePos  string `json:"rule_pos,omitempty"`
}

// Of answers a question. The error is the policy's.
func Of(spec policy.Spec, q Question) (*Answer, error) {
	audit := spec.Mode == policy.Audit
	spec.Mode = policy.Restrict
	whole, err := policy.Compile(spec)
	if err != nil {
		return nil, err
	}
	a := &Answer{Target: q.Target.String(), Protocol: q.Target.Protocol}
	if q.Step != nil {
		a.judge(whole.For(*q.Step), q.Target, &spec)
	} else {
		plain := spec
		plain.Steps = nil
		top, err := policy.Compile(plain)
		if err != nil {
			return nil, err
		}
		a.judge(top.For(anyStep()), q.Target, &plain)
		if err := a.entries(spec, q.Target); err != nil {
			return nil, err
		}
	}
	a.guard(whole, q.Target)
	if audit && !a.Allowed {
		a.note("the file says mode: audit, which lets a build through and records what rules would refuse")
	}
	return a, nil
}

// anyStep is a step with nothing that an entry could select by.
func anyStep() policy.Step { return policy.Step{Command: "a step"} }

// judge decides as the proxy does: a tcp rule allows whatever is spoken.
func (a *Answer) judge(scope *policy.Scope, t Target, spec *policy.Spec) {
	var e policy.Explanation
	for _, judged := range t.judged() {
		if e = scope.Explain(judged); e.Decision.Allowed || e.Decision.Expected {
			a.List = listName(judged.Protocol)
			break
		}
	}
	d := e.Decision
	a.Allowed, a.Reason, a.Rule, a.Pos = d.Allowed, d.Reason, d.Rule, d.Pos
	a.Section = sectionName(e.Section)
	switch {
	case d.Expected:
		a.List = string(policy.BlockedRules)
		a.Why = "known_blocked_rules refuses it, whatever the allow lists say; that fails no build"
	case d.Rule != "":
		a.Why = a.List + " of " + where(a.Section, scope, spec) + " names it"
	case d.Allowed:
		a.Section, a.List = "builder", ""
		a.Why = "the builder is not restricted: there is no builder: section"
	case scope.NetworkNone():
		a.Why = "network: none"
	default:
		a.Why = "no rule of " + where(a.Section, scope, spec) + " names it"
		if a.Pos == "" {
			a.Pos = e.SectionPos
		}
		if e.Add != "" {
			a.Add = &Addition{Section: a.Section, List: string(e.List), Rule: e.Add, Line: e.Line(), Flag: e.Flag()}
		}
		a.near(scope, t)
	}
}

func where(section string, scope *policy.Scope, spec *policy.Spec) string {
	if i := scope.Entry(); i >= 0 && i < len(spec.Steps) {
		return section + " (" + Selector(spec.Steps[i]) + ")"
	}
	if section == topLevel {
		return "the top level"
	}
	return section
}

const topLevel = "top level"

func sectionName(name string) string {
	if name == "" {
		return topLevel
	}
	return name
}

// near tells of rules that allow the same destination when it speaks otherwise.
func (a *Answer) near(scope *policy.Scope, t Target) {
	for _, p := range []string{HTTPS, HTTP} {
		if t.Addr.IsValid() || p == t.Protocol {
			continue
		}
		other := t
		other.Protocol = p
		for _, judged := range other.judged() {
			if r := scope.Match(judged); r != nil {
				a.note("it is allowed as " + p + ", by " + r.Raw() + " (" + r.Pos + ")")
				break
			}
		}
	}
}

// entries asks every entry of steps: and keeps those that answer otherwise.
func (a *Answer) entries(spec policy.Spec, t Target) error {
	for i, s := range spec.Steps {
		alone := spec
		one := s
		one.Run, one.Stage, one.Lines, one.Secrets = "", "", "", nil
		alone.Steps = []policy.StepSpec{one}
		p, err := policy.Compile(alone)
		if err != nil {
			return err
		}
		var sub Answer
		sub.judge(p.For(anyStep()), t, &alone)
		if sub.Allowed != a.Allowed {
			e := Entry{Index: i, Pos: s.Pos, Selector: Selector(s), Allowed: sub.Allowed, Rule: sub.Rule}
			if sub.Rule != "" {
				e.RulePos = sub.Pos
			}
			a.Steps = append(a.Steps, e)
		}
	}
	return nil
}

// guard tells what rules can't decide: addresses that are guarded.
func (a *Answer) guard(p *policy.Policy, t Target) {
	if !t.Addr.IsValid() {
		if a.Allowed {
			a.note("what the name resolves to is looked at when it is dialled: guarded addresses are refused, private ones need allow_private")
		}
		return
	}
	switch policy.NewGuard(nil).Check(t.Addr) {
	case policy.Forbidden, policy.Self:
		a.Allowed, a.Rule, a.List, a.Add, a.Steps = false, "", "", nil, nil
		a.Reason, a.Why, a.Pos = "internal-address", "the address is guarded: no rule opens it", ""
	case policy.Private:
		if p.PrivateAllowed(t.Addr) && !a.Allowed {
			a.note("allow_private covers the address for names that resolve to it; a raw address needs an IP rule")
		}
	}
}

func (a *Answer) note(text string) { a.Notes = append(a.Notes, text) }

// Selector is how a person finds an entry of steps: by what it selects.
func Selector(s policy.StepSpec) string {
	var parts []string
	add := func(key, value string) {
		if value != "" {
			parts = append(parts, key+": "+value)
		}
	}
	add("run", s.Run)
	add("stage", s.Stage)
	add("lines", s.Lines)
	if s.Secrets != nil {
		add("secrets", map[bool]string{true: "true", false: "false"}[*s.Secrets])
	}
	if len(parts) == 0 {
		return "every step"
	}
	return strings.Join(parts, ", ")
}

func listName(p policy.Protocol) string {
	list, _ := policy.Suggest(policy.Target{Protocol: p, Name: "example.com", Port: 1})
	if p == policy.IP {
		list, _ = policy.Suggest(policy.Target{Protocol: p, Addr: netip.IPv6Unspecified(), Port: 1})
	}
	return string(list)
}
