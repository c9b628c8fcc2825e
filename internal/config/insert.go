package config

import (
	"bytes"
	"cmp"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// merger collects insertions into a file's text. Nothing is ever removed or
// rewritten, so comments and layout survive by construction.
type merger struct {
	src     *source
	root    *yaml.Node
	eol     string
	json    bool // the file is JSON and stays so
	seen    map[string]string
	inserts []insertion
}

type insertion struct {
	at   int
	rank rank
	text string
}

// rank orders insertions at one place: what belongs deeper comes first.
type rank int

const (
	lineEnd  rank = iota // the line break that the last line lacks
	itemRank             // of a list that is there
	inner                // a new list in a section
	outer                // a new list at the top level, or a new section
)

// apply makes all insertions; those at one place keep their order.
func (m *merger) apply() []byte {
	slices.SortStableFunc(m.inserts, func(a, b insertion) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.rank, b.rank))
	})
	var out bytes.Buffer
	out.WriteString(m.src.bom)
	last := 0
	for _, in := range m.inserts {
		out.Write(m.src.data[last:in.at])
		out.WriteString(in.text)
		last = in.at
	}
	out.Write(m.src.data[last:])
	return out.Bytes()
}

func (m *merger) insert(at int, r rank, text string) {
	m.inserts = append(m.inserts, insertion{at, r, text})
}

func (m *merger) inserted(at int) bool {
	return slices.ContainsFunc(m.inserts, func(in insertion) bool { return in.at == at })
}

// addTo adds rules to a list of a section, which may be missing, empty, a
// block or flow list, or a string.
func (m *merger) addTo(section *yaml.Node, key string, rules []string) {
	if len(rules) == 0 {
		return
	}
	at := slices.IndexFunc(section.Content, func(n *yaml.Node) bool { return n.Value == key })
	for at >= 0 && at%2 != 0 { // a value that reads like the key
		next := slices.IndexFunc(section.Content[at+1:], func(n *yaml.Node) bool { return n.Value == key })
		if next < 0 {
			at = -1
			break
		}
		at += next + 1
	}
	if at < 0 {
		m.addKey(section, key, rules)
		return
	}
	k, v := section.Content[at], section.Content[at+1]
	flow := section.Style&yaml.FlowStyle != 0
	switch {
	case isEmpty(v) && flow:
		m.addToKey(k, rules)
	case isEmpty(v):
		m.insertLines(m.src.lineOf(m.src.offset(k)), itemRank, m.items(k.Column+1, rules))
	case v.Kind == yaml.ScalarNode:
		m.addToString(v, rules)
	case v.Style&yaml.FlowStyle != 0:
		m.addToFlow(v, strings.Join(m.quoteAll(rules), ", "))
	default:
		m.addToBlock(k, v, policy.List(key), rules)
	}
}

func (m *merger) key(name string) string {
	if m.json {
		return `"` + name + `"`
	}
	return name
}

// addKey adds a new list at the end of a section.
func (m *merger) addKey(section *yaml.Node, key string, rules []string) {
	if section.Style&yaml.FlowStyle != 0 {
		m.addToFlow(section, m.key(key)+": "+m.flowList(rules))
		return
	}
	indent, r := section.Column-1, outer
	if section != m.root {
		r = inner
	}
	m.insertLines(m.src.sectionEnd(section, section == m.root), r, strings.Repeat(" ", indent)+key+":"+m.eol+m.items(indent+2, rules))
}

func (m *merger) items(indent int, rules []string) string {
	var b strings.Builder
	for i, r := range m.quoteAll(rules) {
		b.WriteString(strings.Repeat(" ", indent) + "- " + r + m.note(rules[i]) + m.eol)
	}
	return b.String()
}

// insertLines inserts whole lines behind a line.
func (m *merger) insertLines(line int, r rank, text string) {
	if line < len(m.src.lines) {
		m.insert(m.src.lines[line], r, text)
		return
	}
	end := len(m.src.data)
	if end > 0 && m.src.data[end-1] != '\n' && !m.inserted(end) {
		m.insert(end, lineEnd, m.eol)
	}
	m.insert(end, r, text)
}

// addToString adds to a string of rules, in its own style.
func (m *merger) addToString(v *yaml.Node, rules []string) {
	end := m.src.textEnd(v)
	if v.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		text := " " + strings.Join(rules, " ")
		if len(policy.Split(v.Value)) == 0 {
			text = strings.Join(rules, " ") + " "
		}
		m.insert(end, itemRank, text)
		return
	}
	line := m.src.lineOf(max(end-1, 0))
	text := m.src.line(line)
	indent := string(text[:len(text)-len(bytes.TrimLeft(text, " "))])
	if len(policy.Split(v.Value)) == 0 {
		line = m.src.lineOf(m.src.offset(v))
		indent = strings.Repeat(" ", 4+len(m.src.line(line))-len(bytes.TrimLeft(m.src.line(line), " ")))
	}
	var b strings.Builder
	for _, r := range rules {
		b.WriteString(indent + r + m.eol)
	}
	m.insertLines(line, itemRank, b.String())
}

// addToFlow adds an element before the closing bracket of a flow collection.
func (m *merger) addToFlow(v *yaml.Node, text string) {
	end := m.src.flowEnd(m.src.offset(v))
	switch {
	case m.inserted(end.last), len(v.Content) > 0 && !end.comma:
		text = ", " + text
	case end.comma:
		text = " " + text
	}
	m.insert(end.last, inner, text)
}

// addToKey adds to a key of a flow mapping that has no value, and maybe no colon.
func (m *merger) addToKey(key *yaml.Node, rules []string) { m.addValue(key, m.flowList(rules)) }

func (m *merger) addValue(key *yaml.Node, value string) {
	at := m.src.scalarEnd(key)
	colon := ": "
	if rest := bytes.TrimLeft(m.src.data[at:], " "); len(rest) > 0 && rest[0] == ':' {
		at = len(m.src.data) - len(rest) + 1
		colon = " "
	}
	m.insert(at, itemRank, colon+value)
}

func (m *merger) flowList(rules []string) string {
	return "[" + strings.Join(m.quoteAll(rules), ", ") + "]"
}

// quoteAll quotes what some YAML parser could take for something else than text.
func (m *merger) quoteAll(rules []string) []string {
	plain := regexp.MustCompile(`^[a-z][a-z0-9_.-]*:[0-9]+$`)
	quoted := make([]string, len(rules))
	for i, r := range rules {
		quoted[i] = r
		if m.json || !plain.MatchString(r) {
			quoted[i] = `"` + r + `"`
		}
	}
	return quoted
}
