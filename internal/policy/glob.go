package policy

import "strings"

// glob matches names with wildcards as a non-deterministic automaton whose
// states are the bits of a word, so that its time is proportional to the
// length of the name whatever pattern and name are. State i means that i
// tokens have been matched; a token is one character or the first character
// of a wildcard, which then keeps its state for as long as it goes on.
//
// A wildcard takes at least one character: *.example.com needs a label, and
// cdn-*.example.com does not allow cdn-.example.com.
type glob struct {
	prefix, suffix string // the literal ends, for a quick refusal
	words          int
	accept         int
	step           [alphabet]bits // states that are entered on a character
	stay, stayDot  bits           // states that are kept on a letter, on a dot
}

type bits []uint64

func (b bits) set(i int)      { b[i/64] |= 1 << (i % 64) }
func (b bits) has(i int) bool { return b[i/64]&(1<<(i%64)) != 0 }

// alphabet is the number of character classes of a canonical name.
const alphabet = 26 + 10 + 3

func class(c byte) int {
	switch {
	case c >= 'a' && c <= 'z':
		return int(c - 'a')
	case c >= '0' && c <= '9':
		return int(c-'0') + 26
	case c == '-':
		return 36
	case c == '_':
		return 37
	case c == '.':
		return 38
	}
	return -1
}

// newGlob compiles a checked pattern.
func newGlob(pattern string) *glob {
	g := &glob{
		prefix: pattern[:strings.IndexAny(pattern, "*?")],
		suffix: pattern[strings.LastIndexAny(pattern, "*?")+1:],
	}
	tokens := len(strings.ReplaceAll(pattern, "**", "*"))
	g.accept, g.words = tokens, tokens/64+1
	for i := range g.step {
		g.step[i] = make(bits, g.words)
	}
	g.stay, g.stayDot = make(bits, g.words), make(bits, g.words)
	at := 0
	for i := 0; i < len(pattern); i++ {
		at++
		c := pattern[i]
		if c != '*' && c != '?' {
			g.step[class(c)].set(at)
			continue
		}
		for k := range alphabet {
			if k != class('.') {
				g.step[k].set(at)
			}
		}
		if c == '?' {
			continue
		}
		g.stay.set(at)
		if strings.HasPrefix(pattern[i:], "**") {
			g.stayDot.set(at)
			i++
		}
	}
	return g
}

func (g *glob) match(name string) bool {
	if len(name) < g.accept || !strings.HasPrefix(name, g.prefix) || !strings.HasSuffix(name, g.suffix) {
		return false
	}
	var store [4]uint64
	state := bits(store[:g.words])
	state[0] = 1
	for i := 0; i < len(name); i++ {
		k := class(name[i])
		if k < 0 {
			return false
		}
		step, stay := g.step[k], g.stay
		if name[i] == '.' {
			stay = g.stayDot
		}
		var carry, alive uint64
		for w, old := range state {
			state[w] = (old<<1|carry)&step[w] | old&stay[w]
			carry = old >> 63
			alive |= state[w]
		}
		if alive == 0 {
			return false
		}
	}
	return state.has(g.accept)
}
