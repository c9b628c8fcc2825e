package dockerfile

import (
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// name is a vertex name of the frontend, taken apart:
//
//	[linux/arm64 deps  3/12] ONBUILD RUN npm ci
type name struct {
	group   string // platform and stage as written: what is numbered together
	stage   string // empty in a Dockerfile of one unnamed stage
	index   int    // from 1
	total   int
	onBuild bool
	text    string // the instruction with variables expanded
	cut     bool   // text is not complete
}

// parseName takes an escaped vertex name apart; false for what is not an instruction.
func parseName(escaped string) (name, bool) {
	head, _, cut := strings.Cut(escaped, event.Mark)
	s, err := event.Unescape(head)
	if err != nil || !strings.HasPrefix(s, "[") {
		return name{}, false
	}
	place, text, ok := strings.Cut(s[1:], "] ")
	words := strings.Fields(place)
	if !ok || len(words) == 0 {
		return name{}, false
	}
	n := name{cut: cut, group: strings.Join(words[:len(words)-1], " ")}
	index, total, ok := strings.Cut(words[len(words)-1], "/")
	var errs [2]error
	n.index, errs[0] = strconv.Atoi(index)
	n.total, errs[1] = strconv.Atoi(total)
	if !ok || errs[0] != nil || errs[1] != nil || n.index < 1 || n.total < n.index {
		return name{}, false
	}
	words = words[:len(words)-1]
	if len(words) > 0 && strings.Contains(words[0], "/") {
		words = words[1:] // the platform
	}
	n.stage = strings.Join(words, " ")
	n.text, n.onBuild = strings.CutPrefix(text, "ONBUILD ")
	return n, true
}
