package event

import (
	"maps"
	"net/netip"
	"slices"
)

// visitor is called for everything in a record that may hold foreign text.
// A text that decides is one that a reader judges by; it is cut last.
type visitor struct {
	text func(s *string, decides bool)
	list func(l *[]string)
	addr func(a *netip.Addr)
}

// clone copies r and its payload, deep enough for a visitor to write to.
func clone(r Record) Record {
	r.Start = copied(r.Start)
	r.Step = copied(r.Step)
	r.DNS = copied(r.DNS)
	r.Conn = copied(r.Conn)
	r.Drop = copied(r.Drop)
	if r.Source = copied(r.Source); r.Source != nil {
		r.Source.Hosts = slices.Clone(r.Source.Hosts)
	}
	r.End = copied(r.End)
	if s := r.Start; s != nil && s.Versions != nil {
		s.Versions = maps.Clone(s.Versions)
	}
	if s := r.Step; s != nil {
		s.Secrets, s.Addrs = slices.Clone(s.Secrets), slices.Clone(s.Addrs)
		s.Evidence = copied(s.Evidence)
	}
	if c := r.Conn; c != nil {
		c.Flags = slices.Clone(c.Flags)
		if c.Process = copied(c.Process); c.Process != nil {
			c.Process.Args, c.Process.Chain = slices.Clone(c.Process.Args), slices.Clone(c.Process.Chain)
		}
	}
	return r
}

func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// walk visits r. TestWalkIsComplete keeps it in step with the types.
func (r *Record) walk(v visitor) {
	switch {
	case r.Start != nil:
		r.Start.walk(v)
	case r.Step != nil:
		r.Step.walk(v)
	case r.DNS != nil:
		v.text(&r.DNS.Step, true)
		v.text(&r.DNS.Name, true)
		v.text(&r.DNS.Type, false)
		v.text((*string)(&r.DNS.Reason), true)
		v.text((*string)(&r.DNS.Reason), true)
		v.addr(&r.DNS.Answer)
		v.addr(&r.DNS.Foreign)
	case r.Conn != nil:
		r.Conn.walk(v)
	case r.Drop != nil:
		v.text(&r.Drop.Step, true)
		v.text(&r.Drop.Protocol, true)
		v.text(&r.Drop.Name, true)
		v.addrPort(&r.Drop.Dest)
	case r.Source != nil:
		v.text(&r.Source.Ref, false)
		v.text(&r.Source.Host, true)
		v.list(&r.Source.Hosts)
	case r.End != nil:
		v.text(&r.End.Reason, false)
	}
}

func (s *Start) walk(v visitor) {
	v.text(&s.RunID, true)
	v.text(&s.Mode, true)
	v.text(&s.PolicyDigest, true)
	for _, key := range slices.Sorted(maps.Keys(s.Versions)) {
		k, val := key, s.Versions[key]
		v.text(&k, false)
		v.text(&val, false)
		if k != key {
			delete(s.Versions, key)
		}
		s.Versions[k] = val
	}
}

func (s *Step) walk(v visitor) {
	v.text(&s.ID, true)
	for _, t := range []*string{&s.Build, &s.Vertex, &s.Name, &s.Command, &s.Stage, &s.File, &s.Network} {
		v.text(t, false)
	}
	if e := s.Evidence; e != nil {
		v.text((*string)(&e.Verdict), true)
		v.text(&e.PolicyDigest, false)
		v.text(&e.Doubt, false)
	}
	v.list(&s.Secrets)
	for i := range s.Addrs {
		v.addr(&s.Addrs[i])
	}
}

func (c *Conn) walk(v visitor) {
	for _, t := range []*string{&c.Step, &c.Protocol, &c.Name, &c.RawName, &c.OrigName, &c.Rule, (*string)(&c.Reason)} {
		v.text(t, true)
	}
	for _, t := range []*string{&c.Method, &c.Path, &c.Detail, &c.RulePos} {
		v.text(t, false)
	}
	v.list(&c.Flags)
	v.addrPort(&c.Orig)
	v.addrPort(&c.Dialled)
	v.addr(&c.Resolved)
	if p := c.Process; p != nil {
		v.text(&p.Exe, false)
		v.text(&p.Note, false)
		v.list(&p.Args)
		v.list(&p.Chain)
	}
}

func (v visitor) addrPort(p *netip.AddrPort) {
	a := p.Addr()
	v.addr(&a)
	*p = netip.AddrPortFrom(a, p.Port())
}

// Cleaned returns r with every text made printable, for a reader that must not
// rely on the writer's escaping.
func (r Record) Cleaned() Record {
	r = clone(r)
	r.walk(cleaner(&r))
	return r
}
