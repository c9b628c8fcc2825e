package policy

import (
	"net/netip"
	"strings"
)

// host is a host pattern in canonical form. Exactly one of the three shapes:
// a literal name, a literal suffix below one (*.) or any (**.) labels, or a
// glob.
type host struct {
	text   string
	suffix string // of *.suffix and **.suffix
	deep   bool   // **.suffix
	glob   *glob
}

func (h *host) literal() bool { return h.suffix == "" && h.glob == nil }

// match reports whether a canonical name fits. The index in index.go answers
// the same question for many rules at once.
func (h *host) match(name string) bool {
	switch {
	case h.glob != nil:
		return h.glob.match(name)
	case h.suffix != "":
		first, rest, _ := strings.Cut(name, ".")
		if h.deep {
			return strings.HasSuffix(name, "."+h.suffix)
		}
		return first != "" && rest == h.suffix
	}
	return name == h.text
}

const hostHint = "a host is labels of a-z, 0-9, - and _; * stands for one label or a part of one, ** for several, ? for one character"

func parseHost(s string) (*host, *fault) {
	name := lower(strings.TrimSuffix(s, "."))
	if name == "" {
		return nil, faultf(hostHint, "empty host")
	}
	if len(name) > maxName {
		return nil, faultf("a host name has at most 253 bytes", "host longer than 253 bytes")
	}
	if f := checkAddress(name); f != nil {
		return nil, f
	}
	wild := false
	for label := range strings.SplitSeq(name, ".") {
		w, f := checkLabel(label)
		if f != nil {
			return nil, f
		}
		wild = wild || w
	}
	h := &host{text: name}
	if !wild {
		return h, nil
	}
	first, rest, _ := strings.Cut(name, ".")
	if (first == "*" || first == "**") && rest != "" && !strings.ContainsAny(rest, "*?") {
		h.suffix, h.deep = rest, first == "**"
		return h, nil
	}
	h.glob = newGlob(name)
	return h, nil
}

// checkAddress refuses IP literals and what other parsers take for one.
func checkAddress(name string) *fault {
	hint := "names only here; addresses go into " + string(IPRules)
	if strings.HasPrefix(name, "[") {
		return faultf(hint+": "+name+":443", "IP address in a list of host names")
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	base, _, _ := strings.Cut(name, "/")
	if addr, err := netip.ParseAddr(base); err == nil {
		if addr.Is6() {
			name = "[" + name + "]"
		}
		return faultf(hint+": "+name+":443", "IP address in a list of host names")
	}
	if strings.Trim(name, "0123456789.*?") == "" && strings.ContainsAny(name, "0123456789") && last != "" && !numeric(last) {
		return faultf(hint+" as a CIDR, for example 192.0.2.0/24:443", "wildcards in an IP address")
	}
	if last != "" && numeric(last) {
		return faultf(hint+", in dotted decimal form", "a name that ends in the number %q is read as an IP address", last)
	}
	return nil
}

// checkLabel checks one label of a pattern; wild is true when it has a wildcard.
func checkLabel(label string) (wild bool, f *fault) {
	if label == "" {
		return false, faultf(hostHint, "empty label")
	}
	for _, c := range []byte(label) {
		if c != '*' && c != '?' && !isNameByte(c) {
			return false, faultf(illegalHint(c), "illegal character %q in host", rune(c))
		}
	}
	if !strings.ContainsAny(label, "*?") {
		if msg := nameFault(label); msg != "" {
			return false, faultf(hostHint, "%s", msg)
		}
		return false, nil
	}
	if label == "**" {
		return true, nil
	}
	switch {
	case strings.Contains(label, "**"):
		return true, faultf("** stands between dots, for one or more whole labels", "** as a part of a label")
	case label[0] == '-':
		return true, faultf(hostHint, "label begins with a hyphen")
	case label[len(label)-1] == '-':
		return true, faultf(hostHint, "label ends with a hyphen")
	case len(label) > maxLabel:
		return true, faultf(hostHint, "label longer than 63 bytes")
	}
	return true, nil
}

func illegalHint(c byte) string {
	switch c {
	case '/':
		return "write only the host and the port, without scheme and path"
	case '#':
		return "comments can't stand inside a string of rules; use a YAML list"
	case ',', ';':
		return "separate rules with white space or write a YAML list"
	case '{', '}', '(', ')', '|', '^', '$', '+', '\\', '[', ']':
		return "a regular expression begins with ~"
	}
	return hostHint
}
