package policy

import (
	"net/netip"
	"strings"
)

// Covers reports whether every destination of o is one of r's, whatever lists
// they stand in. Yes is certain; no may also mean that it is hard to see, as
// between two regexes.
func (r *Rule) Covers(o *Rule) bool {
	switch {
	case r.List == PrivateRules || o.List == PrivateRules:
		return r.List == o.List && within(o.net, r.net)
	case o.regex != nil:
		return r.regex != nil && r.regex.source == o.regex.source
	case r.regex != nil:
		return o.host != nil && o.host.literal() && r.regex.coversPorts(o)
	case (r.host == nil) != (o.host == nil):
		return false
	case r.host == nil:
		return within(o.net, r.net) && r.ports.cover(&o.ports)
	}
	return r.ports.cover(&o.ports) && r.host.cover(o.host)
}

func within(inner, outer netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// maxProbes is how many ports a regex is tried with.
const maxProbes = 64

func (x *regex) coversPorts(o *Rule) bool {
	p := &o.ports
	if p.any || p.list == nil && int(p.hi)-int(p.lo) >= maxProbes || len(p.list) > maxProbes {
		return false
	}
	for port := int(p.lo); port <= int(p.hi); port++ {
		if p.match(uint16(port)) && !x.re.MatchString(hostPort(o.host.text, uint16(port))) {
			return false
		}
	}
	return true
}

func (p *ports) cover(o *ports) bool {
	switch {
	case p.any:
		return true
	case o.any:
		return false
	}
	for port := int(o.lo); port <= int(o.hi); port++ {
		if o.match(uint16(port)) && !p.match(uint16(port)) {
			return false
		}
	}
	return true
}

func (h *host) cover(o *host) bool {
	switch {
	case o.literal():
		return h.match(o.text)
	case h.text == o.text, h.text == "**":
		return true
	case h.suffix == "":
		return false
	}
	head, ok := strings.CutSuffix(o.text, "."+h.suffix)
	return ok && (h.deep || head != "**" && !strings.Contains(head, "."))
}

// HostPattern is the host of a host rule in canonical form, "" for others.
func (r *Rule) HostPattern() string {
	if r.host == nil {
		return ""
	}
	return r.host.text
}

// Regex is the expression of a regex rule without its ~, "" for others.
func (r *Rule) Regex() string {
	if r.regex == nil {
		return ""
	}
	return r.regex.source
}

// Network is the network of an IP rule, the zero value for others.
func (r *Rule) Network() netip.Prefix { return r.net }

// EveryPort reports whether the rule leaves the port open.
func (r *Rule) EveryPort() bool { return r.ports.any }
