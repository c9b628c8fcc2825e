package dockerfile

import (
	"path"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// stage is what of a stage takes part in the numbering of its vertices. The
// total counts its base image and all its commands; a number is given to what
// becomes a vertex, and that is not always all of it:
//
//   - a base image that is a named context has no number, nor has one without layers;
//   - WORKDIR of the root directory makes none;
//   - ONBUILD triggers of the base come before the commands, and of those only
//     the kinds that make vertices have numbers.
type stage struct {
	line     int  // of FROM
	base     bool // FROM is an image
	image    bool // and no named context
	commands []command
}

// command is a command that is in the total.
type command struct {
	line     int
	numbered answer
	run      bool
	text     pattern // of run
}

type answer int

const (
	no answer = iota
	maybe
	yes
)

func (g *Graph) stage(i int) stage {
	st := g.Stages[i]
	s := stage{line: Line(st.Location), base: st.BaseName != "scratch" && g.Bases[i] < 0}
	context, ok := key(st.BaseName)
	s.image = s.base && !(ok && g.contexts[context])
	for _, c := range st.Commands {
		cmd := command{line: Line(c.Location()), numbered: yes}
		switch c := c.(type) {
		case *instructions.RunCommand:
			cmd.run, cmd.text = true, g.pattern(c)
		case *instructions.WorkdirCommand:
			cmd.numbered = makes(c.Path)
		case *instructions.AddCommand, *instructions.CopyCommand:
		default:
			continue
		}
		s.commands = append(s.commands, cmd)
	}
	return s
}

// makes reports whether WORKDIR makes a directory: all but the root.
func makes(dir string) answer {
	literal, _, variable := strings.Cut(dir, "$")
	switch {
	case strings.ContainsAny(dir, "\"'\\`"), strings.Contains(dir, ".."):
		return maybe
	case variable && (!path.IsAbs(dir) || path.Dir(literal) == "/"):
		return maybe
	case !variable && path.Clean(dir) == "/":
		return no
	case path.Clean(dir) == ".":
		return maybe
	}
	return yes
}

const (
	maxMaybes   = 8
	maxTriggers = 64
)

// readings are all ways to number the stage that agree with the steps, each as
// the lines of the steps.
func (s stage) readings(steps []name) [][]int {
	maybes := 0
	triggers := steps[0].total - len(s.commands)
	if s.base {
		triggers--
	}
	for _, c := range s.commands {
		if c.numbered == maybe {
			maybes++
		}
	}
	if triggers < 0 || triggers > maxTriggers || maybes > maxMaybes {
		return nil
	}
	most := 0
	if s.image {
		most = 1
	}
	var found [][]int
	for first := range most + 1 {
		for onBuild := range triggers + 1 {
			for mask := range 1 << maybes {
				if lines := s.reading(steps, first, onBuild, mask); lines != nil {
					found = append(found, lines)
				}
			}
		}
	}
	return found
}

// reading returns the lines of the steps if FROM has first numbers, ONBUILD
// triggers have onBuild, and of the commands in doubt those in mask have one;
// nil if the steps contradict that.
func (s stage) reading(steps []name, first, onBuild, mask int) []int {
	numbers := s.numbers(first+onBuild, mask)
	lines := make([]int, len(steps))
	for i, step := range steps {
		if step.total != steps[0].total {
			return nil
		}
		if step.onBuild {
			if step.index <= first || step.index > first+onBuild {
				return nil
			}
			lines[i] = s.line
			continue
		}
		c, ok := numbers[step.index]
		if !ok || !c.run || !step.cut && !c.text.match(step.text) {
			return nil
		}
		lines[i] = c.line
	}
	return lines
}

// numbers gives numbers to the commands, from the one after last on.
func (s stage) numbers(last, mask int) map[int]command {
	numbers := make(map[int]command)
	for _, c := range s.commands {
		if c.numbered == maybe {
			if mask&1 != 0 {
				last++
			}
			mask >>= 1
			continue
		}
		if c.numbered == yes {
			last++
			numbers[last] = c
		}
	}
	return numbers
}
