package policy

import (
	"slices"
	"strconv"
	"strings"
)

// ports is the set of ports of a rule: any, one range, or a sorted list.
type ports struct {
	any    bool
	lo, hi uint16   // a range; lo == hi for a single port
	list   []uint16 // sorted, at least two; lo and hi are its ends
}

func (p *ports) match(port uint16) bool {
	switch {
	case port == 0:
		return false
	case p.any:
		return true
	case port < p.lo || port > p.hi:
		return false
	case p.list != nil:
		_, ok := slices.BinarySearch(p.list, port)
		return ok
	}
	return true
}

func (p *ports) String() string {
	switch {
	case p.any:
		return "*"
	case p.list != nil:
		texts := make([]string, len(p.list))
		for i, port := range p.list {
			texts[i] = strconv.Itoa(int(port))
		}
		return "{" + strings.Join(texts, ",") + "}"
	case p.lo != p.hi:
		return strconv.Itoa(int(p.lo)) + "-" + strconv.Itoa(int(p.hi))
	}
	return strconv.Itoa(int(p.lo))
}

const portHint = "a port is a number, *, a range like 8000-8099 or a list like {443,8443}"

func parsePorts(s string) (ports, *fault) {
	if s == "" {
		return ports{}, faultf(portHint, "empty port")
	}
	if s == "*" {
		return ports{any: true}, nil
	}
	if inner, ok := strings.CutPrefix(s, "{"); ok {
		inner, ok = strings.CutSuffix(inner, "}")
		if !ok {
			return ports{}, faultf(portHint, "port list without closing brace")
		}
		return parsePortList(inner)
	}
	if from, to, ok := strings.Cut(s, "-"); ok {
		return parsePortRange(from, to)
	}
	port, f := parsePort(s)
	return ports{lo: port, hi: port}, f
}

func parsePortRange(from, to string) (ports, *fault) {
	lo, f := parsePort(from)
	if f != nil {
		return ports{}, f
	}
	hi, f := parsePort(to)
	if f != nil {
		return ports{}, f
	}
	if lo > hi {
		return ports{}, faultf("write the lower port first", "port range %d-%d is backwards", lo, hi)
	}
	return ports{lo: lo, hi: hi}, nil
}

func parsePortList(inner string) (ports, *fault) {
	var p ports
	for text := range strings.SplitSeq(inner, ",") {
		port, f := parsePort(text)
		if f != nil {
			return ports{}, f
		}
		if slices.Contains(p.list, port) {
			return ports{}, faultf("name each port once", "port %d twice in the list", port)
		}
		p.list = append(p.list, port)
	}
	slices.Sort(p.list)
	p.lo, p.hi = p.list[0], p.list[len(p.list)-1]
	if len(p.list) == 1 {
		p.list = nil
	}
	return p, nil
}

func parsePort(s string) (uint16, *fault) {
	if s == "" {
		return 0, faultf(portHint, "empty port")
	}
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0, faultf(portHint, "port %q is not a number", s)
		}
	}
	if s[0] == '0' && len(s) > 1 {
		return 0, faultf("write the port without leading zeros", "port %q has a leading zero", s)
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, faultf(portHint, "port %s is not between 1 and 65535", s)
	}
	return uint16(n), nil
}
