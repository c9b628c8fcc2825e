package dockerfile

import (
	"fmt"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// Run is a RUN instruction as a policy selects it.
type Run struct {
	Stage   string // as the frontend names it; empty in a Dockerfile of one unnamed stage
	Line    int
	Command string // empty: not known before it runs
	Secrets bool   // it mounts a secret or ssh
	// Weak are its options that a cage never grants.
	Weak []string
}

// Runs are all RUN instructions, of stages that no target needs too.
func (g *Graph) Runs() []Run {
	var runs []Run
	odd := make([]bool, len(g.Stages)) // a shell that is none, which stages hand down
	for i := range g.Stages {
		odd[i] = g.Bases[i] >= 0 && odd[g.Bases[i]]
		for _, cmd := range g.Stages[i].Commands {
			switch c := cmd.(type) {
			case *instructions.ShellCommand:
				odd[i] = len(c.Shell) < 2 || !strings.HasSuffix(c.Shell[0], "sh") || !strings.HasSuffix(c.Shell[len(c.Shell)-1], "c")
			case *instructions.RunCommand:
				run := Run{Stage: g.stageName(i), Line: Line(c.Location()), Weak: weak(c)}
				if !odd[i] || !c.PrependShell {
					run.Command = commandText(c)
				}
				// The type of a mount is evaluated with its variables; where that
				// fails, BuildKit will say so.
				_ = c.Expand(func(word string) (string, error) { return word, nil })
				for _, m := range instructions.GetMounts(c) {
					run.Secrets = run.Secrets || m.Type == instructions.MountTypeSecret || m.Type == instructions.MountTypeSSH
				}
				runs = append(runs, run)
			}
		}
	}
	return runs
}

func (g *Graph) stageName(i int) string {
	switch {
	case g.Stages[i].Name != "":
		return g.Stages[i].Name
	case len(g.Stages) == 1:
		return ""
	}
	return fmt.Sprintf("stage-%d", i)
}

// commandText is what the cage shows as the command: what stands behind the
// shell, or the arguments, quoted where they would not read as they are.
func commandText(c *instructions.RunCommand) string {
	if !c.PrependShell {
		if n := len(c.CmdLine); n == 3 && strings.HasSuffix(c.CmdLine[0], "sh") && c.CmdLine[1] == "-c" {
			return strings.TrimSpace(c.CmdLine[2])
		}
		return quoted(c.CmdLine)
	}
	text := strings.Join(c.CmdLine, " ")
	if len(c.Files) == 0 {
		return strings.TrimSpace(text)
	}
	if heredoc, err := parser.ParseHeredoc(text); err == nil && heredoc != nil {
		data := c.Files[0].Data
		if c.Files[0].Chomp {
			data = parser.ChompHeredocContent(data)
		}
		if strings.HasPrefix(data, "#!") {
			return "/dev/pipes/" + c.Files[0].Name
		}
		return strings.TrimSpace(data)
	}
	var b strings.Builder
	b.WriteString(text)
	for _, f := range c.Files {
		b.WriteString("\n" + f.Data + f.Name)
	}
	return strings.TrimSpace(b.String())
}

func quoted(args []string) string {
	words := make([]string, len(args))
	for i, a := range args {
		if words[i] = a; a == "" || strings.ContainsAny(a, " \t\r\n\"'`$&|;<>()\\*?#~") {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

func weak(c *instructions.RunCommand) []string {
	var options []string
	if mode := instructions.GetNetwork(c); mode == instructions.NetworkHost {
		options = append(options, "--network=host")
	}
	if mode := instructions.GetSecurity(c); mode == instructions.SecurityInsecure {
		options = append(options, "--security=insecure")
	}
	for _, d := range instructions.GetDevices(c) {
		if d.Required {
			options = append(options, "--device="+d.Name)
		}
	}
	return options
}

// Fetch is something that the builder itself gets: a base image, or an ADD.
type Fetch struct {
	Line int
	What string // FROM, COPY --from, ADD
	Ref  string
}

// Fetches are the images and addresses that the Dockerfile names. What has a
// variable in it is left out.
func (g *Graph) Fetches() []Fetch {
	var out []Fetch
	add := func(line int, what, ref string) {
		if ref != "" && !strings.Contains(ref, "$") && !strings.EqualFold(ref, "scratch") {
			out = append(out, Fetch{line, what, ref})
		}
	}
	for i, st := range g.Stages {
		if g.Bases[i] < 0 {
			add(Line(st.Location), "FROM", st.BaseName)
		}
		for _, s := range Sources(st) {
			if _, stage := g.Find(s.From); !stage {
				add(s.Line, "--from", s.From)
			}
		}
		for _, cmd := range st.Commands {
			if c, ok := cmd.(*instructions.AddCommand); ok {
				for _, src := range c.SourcePaths {
					if strings.Contains(src, "://") || strings.HasPrefix(src, "git@") {
						add(Line(c.Location()), "ADD", src)
					}
				}
			}
		}
	}
	return out
}

// Syntax is the frontend that the Dockerfile asks for, and in which line.
func Syntax(text []byte) (ref string, line int) {
	ref, _, at, ok := parser.DetectSyntax(text)
	if !ok {
		return "", 0
	}
	return ref, Line(at)
}
