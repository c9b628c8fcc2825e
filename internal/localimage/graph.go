package localimage

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// graph is a Dockerfile for one target platform: its stages and what each of
// them is built from. It follows BuildKit's dockerfile2llb.
type graph struct {
	stages   []instructions.Stage // BaseName and Platform are expanded
	names    map[string]int       // stages by lower-case name, the last one wins
	bases    []int                // the stage that a stage is FROM, -1: an image
	contexts map[string]bool      // keys of the caller's named contexts
	target   int
	platform ocispecs.Platform
}

func newGraph(dockerfile []byte, opt Options, target ocispecs.Platform) (*graph, error) {
	ast, err := parser.Parse(bytes.NewReader(dockerfile))
	if err != nil {
		return nil, fmt.Errorf("parsing the Dockerfile: %w", err)
	}
	stages, meta, err := instructions.Parse(ast.AST, linter.New(&linter.Config{SkipAll: true}))
	if err != nil {
		return nil, fmt.Errorf("parsing the Dockerfile: %w", err)
	}
	if len(stages) == 0 {
		return nil, fmt.Errorf("parsing the Dockerfile: no stages to build")
	}
	g := &graph{stages: stages, names: map[string]int{}, contexts: contextKeys(opt.Contexts), platform: target}
	lex := shell.NewLex(ast.EscapeToken)
	env, err := globalArgs(lex, meta, opt, target, stages[len(stages)-1].Name)
	if err != nil {
		return nil, err
	}
	for i := range g.stages {
		if err := g.link(i, lex, env); err != nil {
			return nil, err
		}
	}
	return g, g.choose(opt.Target)
}

// link expands stage i and finds what it is FROM: an earlier stage or an image.
func (g *graph) link(i int, lex *shell.Lex, env shell.EnvGetter) error {
	st := &g.stages[i]
	for _, field := range []*string{&st.BaseName, &st.Platform} {
		r, err := lex.ProcessWordWithMatches(*field, env)
		if err != nil {
			return fmt.Errorf("expanding %q in the Dockerfile: %w", *field, err)
		}
		*field = r.Result
	}
	base, ok := g.names[st.BaseName]
	if !ok {
		base = -1
	}
	g.bases = append(g.bases, base)
	if st.Name != "" {
		g.names[strings.ToLower(st.Name)] = i
	}
	return nil
}

func (g *graph) choose(target string) error {
	g.target = len(g.stages) - 1
	if target == "" {
		return nil
	}
	i, ok := g.find(target)
	if !ok {
		return fmt.Errorf("no stage %q in the Dockerfile", target)
	}
	g.target = i
	return nil
}

// find is a stage by name or number.
func (g *graph) find(name string) (int, bool) {
	if i, ok := g.names[strings.ToLower(name)]; ok {
		return i, true
	}
	i, err := strconv.Atoi(name)
	return i, err == nil && i >= 0 && i < len(g.stages)
}

// reachable are the stages that the target needs, in Dockerfile order.
func (g *graph) reachable() []int {
	seen := make([]bool, len(g.stages))
	todo := []int{g.target}
	for len(todo) > 0 {
		i := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[i] {
			continue
		}
		seen[i] = true
		if g.replaced(i) {
			continue
		}
		if g.bases[i] >= 0 {
			todo = append(todo, g.bases[i])
		}
		for _, s := range sources(g.stages[i]) {
			if j, ok := g.find(s.from); ok {
				todo = append(todo, j)
			}
		}
	}
	var out []int
	for i, s := range seen {
		if s && !g.replaced(i) {
			out = append(out, i)
		}
	}
	return out
}

// replaced says that a named context of the caller stands in for stage i.
func (g *graph) replaced(i int) bool {
	name := g.stages[i].Name
	return name != "" && g.contexts[strings.ToLower(name)]
}

// refs are the images of the reachable stages, without those that the caller
// replaces and those that share their name with a stage.
func (g *graph) refs(reachable []int) []Ref {
	return slices.DeleteFunc(g.images(reachable), g.clash)
}

func (g *graph) clashes(reachable []int) []Ref {
	return slices.DeleteFunc(g.images(reachable), func(r Ref) bool { return !g.clash(r) })
}

func (g *graph) clash(r Ref) bool {
	_, ok := g.names[r.Key]
	return ok
}

func (g *graph) images(reachable []int) []Ref {
	var out []Ref
	add := func(base string, p ocispecs.Platform, line int) {
		r, ok := parseRef(base, p, line)
		if ok && !g.contexts[r.Key] {
			out = append(out, r)
		}
	}
	for _, i := range reachable {
		st := g.stages[i]
		p := g.platform
		if parsed, err := platforms.Parse(st.Platform); st.Platform != "" && err == nil {
			p = platforms.Normalize(parsed)
		}
		if g.bases[i] < 0 {
			add(st.BaseName, p, line(st.Location))
		}
		for _, s := range sources(st) {
			if _, stage := g.find(s.from); !stage {
				add(s.from, g.platform, s.line)
			}
		}
	}
	return out
}

// source is another stage or an image that a stage takes files from.
type source struct {
	from string
	line int
}

func sources(st instructions.Stage) []source {
	var out []source
	for _, cmd := range st.Commands {
		switch c := cmd.(type) {
		case *instructions.CopyCommand:
			if c.From != "" {
				out = append(out, source{c.From, line(c.Location())})
			}
		case *instructions.RunCommand:
			for _, m := range instructions.GetMounts(c) {
				if m.From != "" {
					out = append(out, source{m.From, line(c.Location())})
				}
			}
		}
	}
	return out
}

// line is the first line of an instruction.
func line(ranges []parser.Range) int {
	if len(ranges) == 0 {
		return 0
	}
	return ranges[0].Start.Line
}
