package config

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// maxNote keeps a line with a comment readable.
const maxNote = 60

// note is the comment behind a new rule. What a step is called is the
// Dockerfile's text: nothing of it may end the line or look like another rule.
func (m *merger) note(rule string) string {
	text := m.seen[rule]
	if text == "" {
		return ""
	}
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, text)
	if len(text) > maxNote {
		text = text[:maxNote-3] + "..."
	}
	return " # seen: " + strings.TrimSpace(text)
}

// addToBlock adds items to a block list: each at its place where the list is
// sorted, else at the end.
func (m *merger) addToBlock(key, v *yaml.Node, list policy.List, rules []string) {
	items := v.Content
	texts, inOrder := m.order(list, items)
	for _, r := range rules {
		at := len(items)
		if inOrder {
			at, _ = slices.BinarySearch(texts, r)
		}
		line := m.src.lineOf(m.src.offset(key))
		if at > 0 {
			line = m.src.lineOf(m.src.scalarEnd(items[at-1]))
		}
		m.insertLines(line, itemRank, m.items(v.Column-1, []string{r}))
	}
}

// order returns the canonical rules of a list, and whether they are sorted.
// Comments between them make groups, which no order of the whole list is.
func (m *merger) order(list policy.List, items []*yaml.Node) (texts []string, inOrder bool) {
	for i, n := range items {
		r, err := policy.Parse(list, policy.Text{Text: n.Value})
		if err != nil || i > 0 && n.Line <= items[i-1].Line {
			return nil, false
		}
		texts = append(texts, r.String())
		for line := items[max(i-1, 0)].Line + 1; line < n.Line; line++ {
			if text := bytes.TrimSpace(m.src.line(line)); len(text) > 0 && text[0] == '#' {
				return nil, false
			}
		}
	}
	return texts, slices.IsSorted(texts)
}
