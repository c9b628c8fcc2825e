// Package dockerfile reads a Dockerfile as BuildKit's frontend does: which
// stages the target needs, what they are built from, and in which line a
// vertex of the build has its instruction. It uses BuildKit's own parser and
// follows its dockerfile2llb.
package dockerfile

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options are what a Dockerfile is read with.
type Options struct {
	Target    string
	BuildArgs map[string]string
	// Platforms are the requested ones; empty: Native.
	Platforms []ocispecs.Platform
	Native    ocispecs.Platform // the engine's own
	// Contexts are the names of named contexts; they replace stages and images.
	Contexts []string
}

// Wanted are the platforms to build for.
func (o Options) Wanted() []ocispecs.Platform {
	if len(o.Platforms) > 0 {
		return o.Platforms
	}
	return []ocispecs.Platform{o.Native}
}

// Graph is a Dockerfile for one target platform: its stages and what each of
// them is built from.
type Graph struct {
	Stages   []instructions.Stage // BaseName and Platform are expanded
	Bases    []int                // the stage that a stage is FROM, -1: an image
	Platform ocispecs.Platform
	names    map[string]int  // stages by lower-case name, the last one wins
	contexts map[string]bool // keys of the caller's named contexts
	target   int
	escape   rune
}

// Parse reads a Dockerfile for one of the platforms to build for.
func Parse(dockerfile []byte, opt Options, target ocispecs.Platform) (*Graph, error) {
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
	g := &Graph{Stages: stages, Platform: target, names: map[string]int{}, contexts: contextKeys(opt.Contexts), escape: ast.EscapeToken}
	lex := shell.NewLex(ast.EscapeToken)
	env, err := globalArgs(lex, meta, opt, target, stages[len(stages)-1].Name)
	if err != nil {
		return nil, err
	}
	for i := range g.Stages {
		if err := g.link(i, lex, env); err != nil {
			return nil, err
		}
	}
	return g, g.choose(opt.Target)
}

// link expands stage i and finds what it is FROM: an earlier stage or an image.
func (g *Graph) link(i int, lex *shell.Lex, env shell.EnvGetter) error {
	st := &g.Stages[i]
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
	g.Bases = append(g.Bases, base)
	if st.Name != "" {
		g.names[strings.ToLower(st.Name)] = i
	}
	return nil
}

func (g *Graph) choose(target string) error {
	g.target = len(g.Stages) - 1
	if target == "" {
		return nil
	}
	i, ok := g.Find(target)
	if !ok {
		return fmt.Errorf("no stage %q in the Dockerfile", target)
	}
	g.target = i
	return nil
}

// Find is a stage by name or number.
func (g *Graph) Find(name string) (int, bool) {
	if i, ok := g.names[strings.ToLower(name)]; ok {
		return i, true
	}
	i, err := strconv.Atoi(name)
	return i, err == nil && i >= 0 && i < len(g.Stages)
}

// Reachable are the stages that the target needs, in Dockerfile order.
func (g *Graph) Reachable() []int {
	seen := make([]bool, len(g.Stages))
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
		if g.Bases[i] >= 0 {
			todo = append(todo, g.Bases[i])
		}
		for _, s := range Sources(g.Stages[i]) {
			if j, ok := g.Find(s.From); ok {
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
func (g *Graph) replaced(i int) bool {
	name := g.Stages[i].Name
	return name != "" && g.contexts[strings.ToLower(name)]
}

// Context reports whether a named context of the caller has that key.
func (g *Graph) Context(key string) bool { return g.contexts[key] }

// Named reports whether a stage has that name.
func (g *Graph) Named(name string) bool {
	_, ok := g.names[name]
	return ok
}

// Source is another stage or an image that a stage takes files from.
type Source struct {
	From string
	Line int
}

// Sources are those of a stage, besides its base.
func Sources(st instructions.Stage) []Source {
	var out []Source
	for _, cmd := range st.Commands {
		switch c := cmd.(type) {
		case *instructions.CopyCommand:
			if c.From != "" {
				out = append(out, Source{c.From, Line(c.Location())})
			}
		case *instructions.RunCommand:
			for _, m := range instructions.GetMounts(c) {
				if m.From != "" {
					out = append(out, Source{m.From, Line(c.Location())})
				}
			}
		}
	}
	return out
}

// Line is the first line of an instruction.
func Line(ranges []parser.Range) int {
	if len(ranges) == 0 {
		return 0
	}
	return ranges[0].Start.Line
}
