package config

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// This file adds sections that a file does not have: the builder's, and
// entries of steps:.

// section is the lists of a new section, as lines and in flow style.
func (m *merger) section(indent int, blocked []*policy.Rule, add policy.RuleTexts) (block string, inline []string, err error) {
	var b strings.Builder
	for _, l := range policy.AllowLists() {
		rules, err := fresh(l, nil, blocked, *add.Of(l))
		if err != nil {
			return "", nil, err
		}
		if len(rules) > 0 {
			b.WriteString(strings.Repeat(" ", indent) + string(l) + ":" + m.eol + m.items(indent+2, rules))
			inline = append(inline, m.key(string(l))+": "+m.flowList(rules))
		}
	}
	return b.String(), inline, nil
}

// newBuilder adds a builder section.
func (m *merger) newBuilder(root *yaml.Node, blocked []*policy.Rule, add policy.RuleTexts) error {
	indent := root.Column + 1
	block, inline, err := m.section(indent, blocked, add)
	switch {
	case err != nil:
		return err
	case len(inline) == 0:
	case root.Style&yaml.FlowStyle != 0:
		m.addToFlow(root, m.key("builder")+": {"+strings.Join(inline, ", ")+"}")
	default:
		m.insertLines(m.src.sectionEnd(root, true), outer, strings.Repeat(" ", indent-2)+"builder:"+m.eol+block)
	}
	return nil
}

// newEntries adds entries at the end of steps:, which may be missing or empty.
func (m *merger) newEntries(root *yaml.Node, blocked []*policy.Rule, add []Entry) error {
	steps := value(root, "steps")
	in := root.Style&yaml.FlowStyle != 0 || steps != nil && steps.Style&yaml.FlowStyle != 0
	indent := root.Column + 1
	if steps != nil && len(steps.Content) > 0 {
		indent = steps.Column - 1
	}
	var lines strings.Builder
	var inline []string
	for _, e := range add {
		block, lists, err := m.section(indent+2, blocked, e.Rules)
		if err != nil {
			return err
		}
		if len(lists) == 0 || selected(steps, e.Run) {
			continue
		}
		lead := strings.Repeat(" ", indent)
		if e.Comment != "" {
			lines.WriteString(lead + "# " + e.Comment + m.eol)
		}
		lines.WriteString(lead + "- run: " + m.text(e.Run) + m.eol + block)
		inline = append(inline, "{"+strings.Join(append([]string{m.key("run") + ": " + m.text(e.Run)}, lists...), ", ")+"}")
	}
	switch {
	case len(inline) == 0:
	case in:
		m.flowEntries(root, steps, inline)
	case steps == nil:
		m.insertLines(m.src.sectionEnd(root, true), outer, strings.Repeat(" ", root.Column-1)+"steps:"+m.eol+lines.String())
	case len(steps.Content) > 0:
		m.insertLines(m.src.lastLine(steps), inner, lines.String())
	default:
		key := root.Content[slices.Index(root.Content, steps)-1]
		m.insertLines(m.src.lineOf(m.src.offset(key)), inner, lines.String())
	}
	return nil
}

// flowEntries adds entries where steps: or all of the file is in flow style.
func (m *merger) flowEntries(root, steps *yaml.Node, entries []string) {
	text := strings.Join(entries, ", ")
	switch {
	case steps == nil:
		m.addToFlow(root, m.key("steps")+": ["+text+"]")
	case isEmpty(steps):
		at := slices.Index(root.Content, steps)
		m.addValue(root.Content[at-1], "["+text+"]")
	default:
		m.addToFlow(steps, text)
	}
}

// selected reports whether an entry of steps has just that selector.
func selected(steps *yaml.Node, run string) bool {
	if steps == nil {
		return false
	}
	return slices.ContainsFunc(steps.Content, func(entry *yaml.Node) bool {
		v := value(entry, "run")
		return v != nil && len(entry.Content) > 0 && strings.TrimSpace(v.Value) == run && value(entry, "stage") == nil &&
			value(entry, "lines") == nil && value(entry, "secrets") == nil
	})
}

// text is any text in double quotes. JSON and YAML share the escapes that
// either writer uses.
func (m *merger) text(s string) string {
	if !m.json {
		return strconv.QuoteToASCII(s)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return strconv.QuoteToASCII(s)
	}
	return strings.TrimSuffix(b.String(), "\n")
}
