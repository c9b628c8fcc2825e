// Package workflow turns the inputs of the public Buildcage action, as a GitHub
// workflow has them, into a policy. It is pure. What does not mean the same here
// is never carried over silently: it is left out, or made narrower, and told.
package workflow

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Imported is a policy and what it is not.
type Imported struct {
	Text  []byte
	Notes []*policy.Error // with the place in the workflow
}

// Error is a workflow that nothing can be imported from.
type Error struct{ msg, hint string }

func (e *Error) Error() string { return e.msg }
func (e *Error) Hint() string  { return e.hint }

const maxSize = 1 << 20

// step is one use of the action.
type step struct {
	job, uses string
	line      int
	with      *yaml.Node
}

// Import reads a workflow. job limits it to one job; empty: all, which must
// then agree.
func Import(path string, data []byte, job string) (*Imported, error) {
	if len(data) > maxSize {
		return nil, &Error{path + ": larger than 1 MiB", "is this a workflow?"}
	}
	var doc yaml.Node
	if err := yaml.NewDecoder(bytes.NewReader(data)).Decode(&doc); err != nil {
		return nil, &Error{fmt.Sprintf("%s: %v", path, err), "name a workflow file of .github/workflows"}
	}
	steps := find(&doc, job)
	if len(steps) == 0 {
		return nil, &Error{path + ": no step with inputs of the action", "it looks for steps that use buildcage/docker, or have proxy_mode or allowed_…_rules under with:"}
	}
	im := &importer{path: path, rules: map[policy.List][]string{}}
	var first []byte
	for i, s := range steps {
		im.step(s)
		if i == 0 {
			first = im.signature()
			continue
		}
		if !im.added(s) {
			continue
		}
		if !bytes.Equal(first, im.signature()) {
			return nil, &Error{fmt.Sprintf("%s: the steps at lines %d and %d have different rules", path, steps[0].line, s.line),
				"one file for both would be wider than either; choose one with --job " + strings.Join(jobs(steps), " or --job ")}
		}
	}
	text, err := im.text()
	return &Imported{Text: text, Notes: im.notes}, err
}

func jobs(steps []step) (names []string) {
	for _, s := range steps {
		if !slices.Contains(names, s.job) {
			names = append(names, s.job)
		}
	}
	return names
}

// find collects the steps of jobs that use the action.
func find(doc *yaml.Node, job string) (steps []step) {
	if len(doc.Content) == 0 {
		return nil
	}
	root := doc.Content[0]
	collect := func(name string, list *yaml.Node) {
		if list == nil || list.Kind != yaml.SequenceNode {
			return
		}
		for _, n := range list.Content {
			s := step{job: name, line: n.Line, with: value(n, "with")}
			if uses := value(n, "uses"); uses != nil {
				s.uses = uses.Value
			}
			if s.with != nil && s.with.Kind == yaml.MappingNode && ours(s) {
				steps = append(steps, s)
			}
		}
	}
	if all := value(root, "jobs"); all != nil && all.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(all.Content); i += 2 {
			if name := all.Content[i].Value; job == "" || job == name {
				collect(name, value(all.Content[i+1], "steps"))
			}
		}
	}
	if runs := value(root, "runs"); runs != nil && job == "" { // a composite action
		collect("", value(runs, "steps"))
	}
	return steps
}

func ours(s step) bool {
	name, _, _ := strings.Cut(strings.ToLower(s.uses), "@")
	if name == "buildcage/docker" || name == "dash14/buildcage" || strings.HasSuffix(name, "/report") && strings.Contains(name, "buildcage") {
		return true
	}
	for i := 0; i+1 < len(s.with.Content); i += 2 {
		key := s.with.Content[i].Value
		if key == "proxy_mode" || strings.HasPrefix(key, "allowed_") && strings.HasSuffix(key, "_rules") {
			return true
		}
	}
	return false
}

func value(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// added reports whether a step has rules of its own: a report step has none.
func (im *importer) added(s step) bool {
	for i := 0; i+1 < len(s.with.Content); i += 2 {
		if strings.HasPrefix(s.with.Content[i].Value, "allowed_") {
			return true
		}
	}
	return false
}

// signature is what the allow rules are.
func (im *importer) signature() []byte {
	var b bytes.Buffer
	for _, l := range policy.AllowLists() {
		fmt.Fprintln(&b, l, im.rules[l])
	}
	return b.Bytes()
}

// text is the policy as a file, laid out and valid.
func (im *importer) text() ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "# Imported from %s by buildcage import.\n", event.Clean(im.path))
	for _, n := range im.notes {
		fmt.Fprintf(&b, "# %s\n", event.Clean(n.Error()))
	}
	b.WriteString("\nversion: 1\n")
	if im.mode != "" {
		fmt.Fprintf(&b, "mode: %s\n", im.mode)
	}
	for _, l := range append(policy.AllowLists(), policy.BlockedRules) {
		if len(im.rules[l]) == 0 {
			continue
		}
		fmt.Fprintf(&b, "%s:\n", l)
		for _, r := range im.rules[l] {
			fmt.Fprintf(&b, "  - '%s'\n", strings.ReplaceAll(r, "'", "''"))
		}
	}
	return config.Format("buildcage.yaml", []byte(b.String()))
}
