package dockerfile

import (
	"slices"
	"strconv"
)

// Lines finds instructions by the names of their vertices. A name holds the
// stage and a number within it; the text only confirms what the number says,
// so the same command in two stages, or twice in one, is told apart.
type Lines struct {
	graphs []*Graph
}

// NewLines reads a Dockerfile for all the platforms to build for.
func NewLines(text []byte, opt Options) (*Lines, error) {
	var l Lines
	for _, p := range opt.Wanted() {
		g, err := Parse(text, opt, p)
		if err != nil {
			return nil, err
		}
		l.graphs = append(l.graphs, g)
	}
	return &l, nil
}

// Of returns the first line of the RUN instruction behind each of the vertex
// names (escaped, as events have them), 0 where it is not certain. The names
// should be all those of a build: what is not certain of one follows from the
// others of its stage. An ONBUILD trigger has the line of its FROM.
func (l *Lines) Of(names []string) []int {
	lines := make([]int, len(names))
	groups := make(map[string][]int)
	parsed := make([]name, len(names))
	for i, text := range names {
		if n, ok := parseName(text); ok {
			parsed[i] = n
			groups[n.group] = append(groups[n.group], i)
		}
	}
	for _, members := range groups {
		var group []name
		for _, i := range members {
			group = append(group, parsed[i])
		}
		for k, line := range l.group(group) {
			lines[members[k]] = line
		}
	}
	return lines
}

// group finds the lines of the steps of one stage. Where more than one reading
// of the Dockerfile fits, a line counts if all readings agree on it.
func (l *Lines) group(steps []name) []int {
	var found []int
	for _, g := range l.graphs {
		for _, i := range g.Reachable() {
			if !g.shown(i, steps[0].stage) {
				continue
			}
			for _, reading := range g.stage(i).readings(steps) {
				found = agree(found, reading)
			}
		}
	}
	if found == nil {
		return make([]int, len(steps))
	}
	return found
}

// agree keeps what two readings have in common; the first may be nil.
func agree(a, b []int) []int {
	if a == nil {
		return slices.Clone(b)
	}
	for i := range a {
		if a[i] != b[i] {
			a[i] = 0
		}
	}
	return a
}

// shown reports whether the frontend calls stage i by that name.
func (g *Graph) shown(i int, shown string) bool {
	if own := g.Stages[i].Name; own != "" {
		return shown == own || shown == "" && len(g.Stages) == 1
	}
	return shown == "stage-"+strconv.Itoa(i) || shown == "" && len(g.Stages) == 1
}
