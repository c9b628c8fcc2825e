package supervise

import (
	"encoding/json"
	"strings"

	"github.com/buildcage/buildcage/internal/cage/runtime"
	"github.com/buildcage/buildcage/internal/cage/vertex"
)

// likeness says how well a vertex fits the command of a step.
type likeness int

const (
	unlike  likeness = iota
	vague            // a RUN instruction whose text does not tell
	alike            // but for variables, which the name of a vertex has expanded
	certain          // the same text
)

// likenessOf compares a vertex with a command as the runtime saw it.
func likenessOf(v vertex.Vertex, command string) likeness {
	text, run := vertex.ParseName(v.Name).Run()
	if !run {
		return unlike
	}
	text, command = plain(text), plain(command)
	var args []string
	switch {
	case text == command:
		return certain
	case strings.HasPrefix(text, "[") && json.Unmarshal([]byte(text), &args) == nil:
		if plain(runtime.Command(args)) == command {
			return certain
		}
		return unlike
	case strings.Contains(text, "<<"):
		return vague
	case strings.Contains(command, "$") && fits(pieces(command), text):
		return alike
	}
	return unlike
}

func plain(s string) string { return strings.Join(strings.Fields(s), " ") }

// pieces are the parts of a command between its variables.
func pieces(command string) []string {
	var list []string
	for {
		before, after, found := strings.Cut(command, "$")
		list = append(list, before)
		if !found {
			return list
		}
		if strings.HasPrefix(after, "{") {
			if _, rest, closed := strings.Cut(after, "}"); closed {
				command = rest
				continue
			}
		}
		command = strings.TrimLeft(after, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
	}
}

// fits reports whether text is the pieces in their order with anything between
// them.
func fits(list []string, text string) bool {
	last := len(list) - 1
	text, first := strings.CutPrefix(text, strings.TrimSpace(list[0]))
	if !first {
		return false
	}
	for _, piece := range list[1:last] {
		_, rest, found := strings.Cut(text, plain(piece))
		if !found {
			return false
		}
		text = rest
	}
	return strings.HasSuffix(text, strings.TrimSpace(list[last]))
}

// most are the vertices that fit the command best.
func most(pending []vertex.Vertex, command string) []vertex.Vertex {
	best, list := vague, []vertex.Vertex(nil)
	for _, v := range pending {
		switch l := likenessOf(v, command); {
		case l < best || l == unlike:
		case l > best:
			best, list = l, []vertex.Vertex{v}
		default:
			list = append(list, v)
		}
	}
	return list
}
