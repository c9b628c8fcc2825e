package policy

import (
	"net/netip"
	"strings"
)

// Rule is one parsed rule of a list. It is immutable.
type Rule struct {
	List List
	Pos  string

	raw   string
	host  *host
	regex *regex
	net   netip.Prefix // of IP rules and of allow_private
	ports ports
}

// maxRule is the longest rule text; the longest name has 253 bytes.
const maxRule = 1024

// Parse parses one rule of a list. The error is an *Error with t's position.
func Parse(l List, t Text) (*Rule, error) {
	r := &Rule{List: l, Pos: t.Pos, raw: t.Text}
	if f := r.parse(); f != nil {
		return nil, &Error{Pos: t.Pos, Rule: t.Text, Msg: f.msg, hint: f.hint}
	}
	return r, nil
}

// Raw is the rule as written.
func (r *Rule) Raw() string { return r.raw }

// String is the rule in canonical form, the port always written out. Parsing
// it for the same list gives an equal rule.
func (r *Rule) String() string {
	switch {
	case r.regex != nil:
		return "~" + r.regex.source
	case r.host != nil:
		return r.host.text + ":" + r.ports.String()
	}
	text := r.net.String()
	if r.net.IsSingleIP() {
		text = r.net.Addr().String()
	}
	if r.List == PrivateRules {
		return text
	}
	if r.net.Addr().Is6() {
		text = "[" + text + "]"
	}
	return text + ":" + r.ports.String()
}

// Match reports whether the rule covers a target. The protocol is the
// business of the list that the rule stands in.
func (r *Rule) Match(t Target) bool {
	switch {
	case r.List == PrivateRules:
		return false
	case r.regex != nil:
		return t.Name != "" && t.Port != 0 && r.regex.re.MatchString(hostPort(t.Name, t.Port))
	case r.host != nil:
		return t.Name != "" && r.ports.match(t.Port) && r.host.match(t.Name)
	}
	return t.Addr.IsValid() && r.ports.match(t.Port) && r.net.Contains(t.Addr.Unmap())
}

// Exact reports whether the rule names one destination: no wildcard, one port.
func (r *Rule) Exact() bool {
	if r.List == PrivateRules {
		return r.net.IsSingleIP()
	}
	single := !r.ports.any && r.ports.lo == r.ports.hi
	if r.host != nil {
		return single && r.host.literal()
	}
	return r.regex == nil && single && r.net.IsSingleIP()
}

func (r *Rule) parse() *fault {
	if f := checkText(r.raw, r.List); f != nil {
		return f
	}
	if r.List == PrivateRules {
		var f *fault
		r.net, f = parsePrivate(r.raw)
		return f
	}
	if source, ok := strings.CutPrefix(r.raw, "~"); ok {
		if r.List == IPRules {
			return faultf(ipHint, "regex in a list of IP rules")
		}
		var f *fault
		r.regex, f = parseRegex(source)
		return f
	}
	if r.List == IPRules || r.List == BlockedRules && looksIP(r.raw) {
		return r.parseIP()
	}
	return r.parseHost()
}

func (r *Rule) parseHost() *fault {
	name, port, hasPort := strings.Cut(r.raw, ":")
	if strings.HasPrefix(port, "//") {
		return faultf("write only the host and the port, without scheme and path", "URL instead of a host")
	}
	if strings.HasPrefix(r.raw, "[") || strings.Contains(port, ":") {
		return faultf("addresses go into "+string(IPRules)+", v6 in brackets", "more than one colon; not a host name")
	}
	var f *fault
	if r.host, f = parseHost(name); f != nil {
		return f
	}
	return r.parsePorts(port, hasPort)
}

func (r *Rule) parseIP() *fault {
	cut := strings.IndexByte(r.raw, ':')
	if strings.HasPrefix(r.raw, "[") {
		if cut = strings.IndexByte(r.raw, ']'); cut >= 0 {
			cut++
		}
	} else if strings.Count(r.raw, ":") > 1 {
		return faultf("write v6 addresses in brackets, with the port behind", "v6 address without brackets")
	}
	address, port := r.raw, ""
	hasPort := cut >= 0 && cut < len(r.raw)
	if hasPort {
		if r.raw[cut] != ':' {
			return faultf("write the prefix length inside the brackets: [2001:db8::/32]:443", "%q after the bracket", r.raw[cut:])
		}
		address, port = r.raw[:cut], r.raw[cut+1:]
	}
	var f *fault
	if r.net, f = parseIP(address); f != nil {
		return f
	}
	return r.parsePorts(port, hasPort)
}

func (r *Rule) parsePorts(port string, given bool) *fault {
	if !given {
		if port = r.List.defaultPort(); port == "" {
			return faultf("add the port, for example "+r.raw+":443; :* means any", "port missing")
		}
	}
	var f *fault
	r.ports, f = parsePorts(port)
	return f
}

// checkText refuses what is wrong in any kind of rule.
func checkText(s string, l List) *fault {
	if s == "" {
		return faultf("remove it, or write a rule", "empty rule")
	}
	if len(s) > maxRule {
		return faultf("a rule has at most 1024 bytes", "rule too long")
	}
	part := "host"
	switch {
	case s[0] == '~':
		part = "regex"
	case l == IPRules || l == PrivateRules:
		part = "address"
	}
	for i, r := range s {
		if part == "host" && r == ':' {
			part = "port"
		}
		switch {
		case r < 0x80 && isSpace(byte(r)):
			return faultf("one list item is one rule", "space in %s", part)
		case r < ' ' || r == 0x7f:
			return faultf("remove it", "control character in %s", part)
		case r >= 0x80 && part == "host":
			name, _, _ := strings.Cut(s, ":")
			return faultf("write the punycode form: "+toASCII(name)+s[len(name):], "non-ASCII character %q in host", r)
		case r >= 0x80:
			return faultf("rules are ASCII; names are matched in punycode form", "non-ASCII character %q in %s", s[i:i+runeLen(s[i:])], part)
		}
	}
	return nil
}
