package policy

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// regex is a ~ rule: RE2, without regard to case, matched as a whole against
// host:port. Its size bounds the time of a decision, because RE2's is the
// product of program and name.
type regex struct {
	source string
	re     *regexp.Regexp
	size   int // instructions
	tree   *syntax.Regexp
}

// The bounds on instructions keep a decision within milliseconds, whatever the
// patterns: maxRegex for one rule, which is what package regexp runs with its
// fast bounded backtracker (500), maxRegexes for all regex rules of one list.
const (
	maxRegex   = 480
	maxRegexes = 10000
)

func parseRegex(source string) (*regex, *fault) {
	const hint = "a regex rule is ~ and an RE2 expression that covers host:port, for example ~api[0-9]+\\.example\\.com:443"
	if source == "" {
		return nil, faultf(hint, "empty regex")
	}
	for _, c := range []byte(source) {
		if c < ' ' || c == 0x7f {
			return nil, faultf(hint, "control character in regex")
		}
	}
	tree, err := syntax.Parse(source, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return nil, faultf(hint, "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	foldLower(tree)
	// The tree is printed and wrapped, never the source: an unclosed \Q or a
	// parenthesis in the source could otherwise swallow the anchors.
	re, err := regexp.Compile(`\A(?:` + tree.String() + `)\z`)
	if err != nil {
		return nil, faultf(hint, "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, faultf(hint, "%v", err)
	}
	if len(prog.Inst) > maxRegex {
		return nil, faultf("shorten its repetitions", "regex is too large")
	}
	return &regex{source: source, re: re, size: len(prog.Inst), tree: tree}, nil
}

// foldLower turns literals that match in either case into lower-case ones.
// What is matched is lower-case ASCII, so nothing changes but the speed: the
// expression gets a literal prefix that refuses most names at once.
func foldLower(tree *syntax.Regexp) {
	if tree.Op == syntax.OpLiteral && tree.Flags&syntax.FoldCase != 0 {
		tree.Flags &^= syntax.FoldCase
		for i, r := range tree.Rune {
			if r >= 'A' && r <= 'Z' {
				tree.Rune[i] = r + 'a' - 'A'
			}
		}
	}
	for _, sub := range tree.Sub {
		foldLower(sub)
	}
}
