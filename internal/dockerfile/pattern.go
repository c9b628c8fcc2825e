package dockerfile

import (
	"regexp"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// pattern is the text of an instruction with a hole for each variable, whose
// values are the build's business. A nil pattern fits everything.
type pattern []string

// hole stands for the value of a variable.
const hole = "\x00"

// blank has a value for every variable.
type blank struct{}

func (blank) Get(string) (string, bool) { return hole, true }
func (blank) Keys() []string            { return nil }

func (g *Graph) pattern(c *instructions.RunCommand) pattern {
	text := c.String()
	if regexp.MustCompile(`\$\{\w+:?\+`).MatchString(text) {
		return nil // there may be nothing instead of what is written
	}
	lex := shell.NewLex(g.escape)
	lex.RawQuotes, lex.SkipUnsetEnv = true, true
	if r, err := lex.ProcessWordWithMatches(text, blank{}); err == nil {
		text = r.Result
	}
	if _, rest, ok := strings.Cut(text, " "); ok {
		text = "RUN " + rest // the frontend puts it into upper case
	}
	if len(c.Files) > 0 {
		text += hole // the first line of a heredoc follows
	}
	return strings.Split(text, hole)
}

func (p pattern) match(text string) bool {
	if len(p) == 0 {
		return true
	}
	rest, ok := strings.CutPrefix(text, p[0])
	if !ok || len(p) == 1 {
		return ok && rest == ""
	}
	for _, part := range p[1 : len(p)-1] {
		i := strings.Index(rest, part)
		if i < 0 {
			return false
		}
		rest = rest[i+len(part):]
	}
	return strings.HasSuffix(rest, p[len(p)-1])
}
