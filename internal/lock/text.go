package lock

import (
	"strconv"
	"strings"
)

const header = `# What the steps of this build reach. Written by buildcage; commit it.
# "buildcage build --locked" fails when a build reaches anything else.
version: 1
`

// Encode is the file: sorted, one destination a line, the same text for the
// same content.
func (l *Lock) Encode() []byte {
	var b strings.Builder
	b.WriteString(header)
	if len(l.Steps) == 0 {
		b.WriteString("steps: []\n")
		return []byte(b.String())
	}
	b.WriteString("steps:\n")
	for _, s := range l.Steps {
		b.WriteString("  - run: " + strconv.QuoteToASCII(s.Run) + "\n")
		if s.Stage != "" {
			b.WriteString("    stage: " + strconv.QuoteToASCII(s.Stage) + "\n")
		}
		b.WriteString("    reached:\n")
		for _, d := range s.Reached {
			b.WriteString("      - " + strconv.QuoteToASCII(d.String()+" "+d.Protocol) + "\n")
		}
	}
	return []byte(b.String())
}
