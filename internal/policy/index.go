package policy

import (
	"net/netip"
	"strings"
)

// index finds the first rule of a list that covers a target. Literal names,
// literal suffixes and networks are found by hash, so that their number does
// not matter; globs and regexes are tried one by one.
type index struct {
	rules  []*Rule
	exact  map[string][]int // name → rules, ascending
	below  map[string][]int // suffix → rules *.suffix and **.suffix
	nets   map[netip.Prefix][]int
	sizes4 []int // prefix lengths that occur
	sizes6 []int
	others []int
}

func newIndex(rules []*Rule) *index {
	x := &index{rules: rules, exact: map[string][]int{}, below: map[string][]int{}, nets: map[netip.Prefix][]int{}}
	for i, r := range rules {
		switch {
		case r.host == nil && r.regex == nil:
			x.addNet(r.net, i)
		case r.host != nil && r.host.literal():
			x.exact[r.host.text] = append(x.exact[r.host.text], i)
		case r.host != nil && r.host.suffix != "":
			x.below[r.host.suffix] = append(x.below[r.host.suffix], i)
		default:
			x.others = append(x.others, i)
		}
	}
	return x
}

func (x *index) addNet(p netip.Prefix, i int) {
	sizes := &x.sizes4
	if p.Addr().Is6() {
		sizes = &x.sizes6
	}
	known := false
	for _, n := range *sizes {
		known = known || n == p.Bits()
	}
	if !known {
		*sizes = append(*sizes, p.Bits())
	}
	x.nets[p] = append(x.nets[p], i)
}

// find returns the matching rule that is listed first, or nil.
func (x *index) find(t Target) *Rule {
	best := len(x.rules)
	if t.Protocol == IP {
		best = x.findNet(t, best)
	} else {
		best = x.findName(t, best)
	}
	if best == len(x.rules) {
		return nil
	}
	return x.rules[best]
}

func (x *index) findNet(t Target, best int) int {
	addr := t.Addr.Unmap()
	sizes := x.sizes4
	if addr.Is6() {
		sizes = x.sizes6
	}
	for _, n := range sizes {
		p, err := addr.Prefix(n)
		if err != nil {
			continue
		}
		best = x.first(x.nets[p], best, t.Port, true)
	}
	return best
}

func (x *index) findName(t Target, best int) int {
	best = x.first(x.exact[t.Name], best, t.Port, true)
	if len(x.below) > 0 {
		one := true
		for rest := t.Name; ; one = false {
			_, after, ok := strings.Cut(rest, ".")
			if !ok {
				break
			}
			best = x.first(x.below[after], best, t.Port, one)
			rest = after
		}
	}
	for _, i := range x.others {
		if i >= best {
			break
		}
		if x.rules[i].Match(t) {
			return i
		}
	}
	return best
}

// first is the first candidate before best that takes the port. one is false
// when several labels stand before the suffix, which only ** covers.
func (x *index) first(candidates []int, best int, port uint16, one bool) int {
	for _, i := range candidates {
		if i >= best {
			break
		}
		r := x.rules[i]
		if (one || r.host.deep) && r.ports.match(port) {
			return i
		}
	}
	return best
}
