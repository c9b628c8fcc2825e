package policy

// Intersect is what a step may do that several parties share: what every one
// of the scopes allows. The first is the one that Policy and Entry speak of.
func Intersect(scopes ...*Scope) *Scope {
	if len(scopes) == 1 {
		return scopes[0]
	}
	all := *scopes[0]
	for _, s := range scopes[1:] {
		one := *s
		one.also = nil
		all.also = append(append(all.also[:len(all.also):len(all.also)], &one), s.also...)
	}
	return &all
}

// parts are the scopes that have to agree, each of one policy.
func (s *Scope) parts() []*Scope {
	one := *s
	one.also = nil
	return append([]*Scope{&one}, s.also...)
}

// deciding are the parts that ask for rules. Where no part does, all of them
// are: what they have rules for can still be told from what they have not.
func (s *Scope) deciding() []*Scope {
	if len(s.also) == 0 {
		return []*Scope{s}
	}
	var strict []*Scope
	for _, part := range s.parts() {
		if !part.Lenient() {
			strict = append(strict, part)
		}
	}
	if strict == nil {
		return s.parts()
	}
	return strict
}

// Lenient says that what no rule names passes: in audit, and where nothing is
// restricted.
func (s *Scope) Lenient() bool {
	for _, other := range s.also {
		if !other.Lenient() {
			return false
		}
	}
	return s.policy.Mode() == Audit || len(s.sections) == 0
}

// ECHAllowed reports whether an encrypted ClientHello may pass in restrict.
func (s *Scope) ECHAllowed() bool {
	for _, other := range s.also {
		if !other.ECHAllowed() {
			return false
		}
	}
	return s.policy.ECHAllowed()
}

// Refusing is the part that refuses a target, s itself when none does.
func (s *Scope) Refusing(t Target) *Scope {
	if len(s.also) > 0 {
		for _, part := range s.parts() {
			if !part.Judge(t).Allowed {
				return part
			}
		}
	}
	return s
}
