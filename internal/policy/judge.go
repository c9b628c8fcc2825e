package policy

import (
	"net/netip"
	"slices"
)

// Decision is the answer to a Target.
type Decision struct {
	// Allowed is what happens. In audit it is true where restrict would refuse for want of a rule.
	Allowed bool
	// Audited is true when only the audit mode let it through.
	Audited bool
	// Expected is true for a refusal that a known_blocked rule names.
	Expected bool
	// Rule is the text of the deciding rule, Pos where it stands; empty without one.
	Rule string
	Pos  string
	// Reason is empty when allowed by a rule, else "not-allowed", "ip-not-allowed" or "network-none".
	Reason string
}

const (
	notAllowed    = "not-allowed"
	ipNotAllowed  = "ip-not-allowed"
	networkDenied = "network-none"
)

// Scope is what one step (or the builder) may do under a Policy.
type Scope struct {
	policy   *Policy
	sections []*section // all of them must allow; none: not restricted
	also     []*Scope   // of other policies: all of them must allow, too; see Intersect
}

// Policy is the policy that the scope belongs to.
func (s *Scope) Policy() *Policy { return s.policy }

// Restricted is false for the builder of a policy without a builder: section:
// everything is allowed, known_blocked rules included, and recorded.
func (s *Scope) Restricted() bool {
	return len(s.sections) > 0 || slices.ContainsFunc(s.also, (*Scope).Restricted)
}

// NetworkNone reports that the step has no network at all, in audit too.
func (s *Scope) NetworkNone() bool {
	return slices.ContainsFunc(s.sections, func(x *section) bool { return x.none }) ||
		slices.ContainsFunc(s.also, (*Scope).NetworkNone)
}

// MaxUpload is how many bytes the step may send in all, 0: no limit.
func (s *Scope) MaxUpload() int64 {
	var limit int64
	for _, section := range s.sections {
		if section.max > 0 && (limit == 0 || section.max < limit) {
			limit = section.max
		}
	}
	for _, other := range s.also {
		if most := other.MaxUpload(); most > 0 && (limit == 0 || most < limit) {
			limit = most
		}
	}
	return limit
}

// Entry is the index of the entry of steps: that decides for the step, -1
// when it is the top level, the builder, or more than one section.
func (s *Scope) Entry() int {
	if len(s.sections) != 1 {
		return -1
	}
	return s.sections[0].entry
}

// Own reports whether an entry of steps: selects the step for certain, so that
// the top level plays no part.
func (s *Scope) Own() bool {
	return len(s.sections) > 0 && s.sections[len(s.sections)-1].entry >= 0
}

// Match returns the allow rule that covers a target, nil without one. The mode
// plays no part: it is for callers that have another question left to ask
// when no rule of this protocol matches. A known_blocked target has no match.
func (s *Scope) Match(t Target) *Rule {
	if !t.valid() || s.NetworkNone() {
		return nil
	}
	var first *Rule
	for i, part := range s.deciding() {
		if part.known(t) {
			return nil
		}
		r := part.match(t)
		if r == nil {
			return nil
		}
		if i == 0 {
			first = r
		}
	}
	return first
}

// known says that a known_blocked rule covers the target.
func (s *Scope) known(t Target) bool { return len(s.sections) > 0 && s.policy.blocked.find(t) != nil }

func (s *Scope) match(t Target) *Rule {
	list, ok := listOf(t.Protocol)
	if !ok {
		return nil
	}
	var first *Rule
	for _, section := range s.sections {
		r := section.lists[list].find(t)
		if r == nil {
			return nil
		}
		if first == nil {
			first = r
		}
	}
	return first
}

// PrivateAllowed reports whether a private address may be dialled: because
// allow_private covers it or because an IP rule of the scope names it.
func (s *Scope) PrivateAllowed(a netip.AddrPort) bool {
	t := Target{Protocol: IP, Addr: a.Addr(), Port: a.Port()}
	return !slices.ContainsFunc(s.deciding(), func(part *Scope) bool {
		return !part.policy.PrivateAllowed(a.Addr()) && (!t.valid() || part.NetworkNone() || part.known(t) || part.match(t) == nil)
	})
}

// Judge decides about a target, in this order:
//
//   - network: none refuses everything, in audit too;
//   - a scope that is not restricted allows everything;
//   - a known_blocked rule refuses, whatever the allow lists say;
//   - a rule of the list of the protocol allows;
//   - else it is refused.
//
// The last refusal and that of a known_blocked rule pass as Audited in audit.
// A target whose name is not canonical, or that has no port, is refused in
// every mode: it can't have been classified.
func (s *Scope) Judge(t Target) Decision {
	first := s.judge(t)
	for _, other := range s.also {
		d := other.Judge(t)
		switch {
		case !first.Allowed:
			return first
		case !d.Allowed:
			return d
		}
		first.Audited = first.Audited || d.Audited
	}
	return first
}

// judge decides for one policy.
func (s *Scope) judge(t Target) Decision {
	reason := notAllowed
	if t.Protocol == IP {
		reason = ipNotAllowed
	}
	_, known := listOf(t.Protocol)
	switch {
	case !known || !t.valid():
		return Decision{Reason: reason}
	case s.nonePos() != nil:
		return Decision{Reason: networkDenied, Pos: *s.nonePos()}
	case len(s.sections) == 0:
		return Decision{Allowed: true}
	}
	audit := s.policy.spec.Mode == Audit
	if r := s.policy.blocked.find(t); r != nil {
		return Decision{Allowed: audit, Audited: audit, Expected: true, Rule: r.raw, Pos: r.Pos, Reason: reason}
	}
	if r := s.match(t); r != nil {
		return Decision{Allowed: true, Rule: r.raw, Pos: r.Pos}
	}
	return Decision{Allowed: audit, Audited: audit, Reason: reason}
}

// nonePos is where network: none stands, nil where it does not.
func (s *Scope) nonePos() *string {
	for _, section := range s.sections {
		if section.none {
			return &section.pos
		}
	}
	return nil
}
