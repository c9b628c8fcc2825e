// Package vertex knows the vertices of the builds that run in the cage: what
// BuildKit calls them, when they run, whether they came from the cache, and
// which of them a step belongs to.
//
// Names and times come from the status stream that every build has. The exact
// link between a step and its vertex is a trace span: BuildKit puts the id of
// the span that it runs a vertex under into the step's configuration
// (TRACEPARENT), and reports the span with the vertex's digest when it ends.
package vertex

import (
	"strconv"
	"strings"
	"time"
)

// Vertex is one node of a build.
type Vertex struct {
	Build     string // ref of the build
	Digest    string
	Inputs    string // digests, separated by spaces
	Name      string // as BuildKit shows it
	Started   time.Time
	Completed time.Time
	Cached    bool
	Error     string
	Pushes    string // the image that it pushes, as far as that is known
}

// Name is a vertex name taken apart. BuildKit's Dockerfile frontend writes
// "[linux/arm64 deps  3/12] RUN npm ci" or "[internal] load build context".
type Name struct {
	Platform string // empty unless several are built
	Stage    string // empty in a Dockerfile of one unnamed stage
	Index    int    // position of the instruction in its stage, from 1; 0: not an instruction
	Total    int
	Internal bool
	OnBuild  bool
	Text     string // the instruction, "RUN npm ci", with variables expanded
}

// ParseName takes a vertex name apart. What does not look like the frontend's
// form is all text.
func ParseName(s string) Name {
	if !strings.HasPrefix(s, "[") {
		return Name{Text: s}
	}
	head, text, ok := strings.Cut(s[1:], "] ")
	if !ok {
		return Name{Text: s}
	}
	fields := strings.Fields(head)
	if len(fields) == 0 {
		return Name{Text: s}
	}
	if fields[0] == "internal" || fields[0] == "auth" {
		return Name{Internal: true, Text: text}
	}
	n := Name{}
	if i, t, ok := position(fields[len(fields)-1]); ok {
		n.Index, n.Total = i, t
		fields = fields[:len(fields)-1]
	}
	if len(fields) > 0 && strings.Contains(fields[0], "/") {
		n.Platform, fields = fields[0], fields[1:]
	}
	n.Stage = strings.Join(fields, " ")
	n.Text, n.OnBuild = strings.CutPrefix(text, "ONBUILD ")
	return n
}

func position(s string) (index, total int, ok bool) {
	a, b, found := strings.Cut(s, "/")
	if !found {
		return 0, 0, false
	}
	index, err := strconv.Atoi(a)
	if err != nil || index < 1 {
		return 0, 0, false
	}
	total, err = strconv.Atoi(b)
	return index, total, err == nil && total >= index
}

// Run reports whether the vertex is a RUN instruction, and its command text
// without the flags of RUN.
func (n Name) Run() (command string, ok bool) {
	_, command, ok = n.run()
	return command, ok
}

// SecretEnv are the variables that a RUN instruction gets secrets in. They are
// no mounts, and nothing else tells of them.
func (n Name) SecretEnv() (names []string) {
	flags, _, _ := n.run()
	for _, flag := range flags {
		options, ok := strings.CutPrefix(flag, "--mount=")
		if !ok {
			continue
		}
		secret, env := false, ""
		for option := range strings.SplitSeq(strings.Trim(options, `"'`), ",") {
			key, value, _ := strings.Cut(option, "=")
			switch strings.ToLower(key) {
			case "type":
				secret = strings.EqualFold(value, "secret")
			case "env":
				env = value
			}
		}
		if secret && env != "" {
			names = append(names, env)
		}
	}
	return names
}

func (n Name) run() (flags []string, command string, ok bool) {
	rest, ok := strings.CutPrefix(n.Text, "RUN ")
	if !ok {
		return nil, "", false
	}
	rest = strings.TrimLeft(rest, " \t")
	for strings.HasPrefix(rest, "--") {
		flag, after, more := strings.Cut(rest, " ")
		flags = append(flags, flag)
		if rest = strings.TrimLeft(after, " \t"); !more {
			break
		}
	}
	return flags, rest, true
}
