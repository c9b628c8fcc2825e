package config

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// formatter lays a file out again. It works on units: what has a line of its
// own in the result, in the order of the source.
type formatter struct {
	src        *source
	out        strings.Builder
	order      []*unit
	unit       map[*yaml.Node]*unit
	scalars    [][2]int // where text stands that may hold a #
	head, tail []string // comments of the file itself
}

// unit is a key, an item of a list, or an entry of steps:, with its comments.
// An empty line stands for a blank one.
type unit struct {
	node   *yaml.Node
	parent *unit
	line   int
	column int // where its line begins
	entry  bool
	before []string
	behind []string
	foot   []string // below all that is in it
}

// units collects the units of the file.
func (f *formatter) units(root *yaml.Node) {
	f.unit = map[*yaml.Node]*unit{}
	f.keys(root, nil)
	slices.SortStableFunc(f.order, func(a, b *unit) int { return f.src.offset(a.node) - f.src.offset(b.node) })
}

func (f *formatter) add(n *yaml.Node, parent *unit) *unit {
	text := f.src.line(n.Line)
	u := &unit{node: n, parent: parent, line: n.Line, column: len(text) - len(bytes.TrimLeft(text, " ")) + 1}
	f.unit[n] = u
	f.order = append(f.order, u)
	return u
}

func (f *formatter) keys(mapping *yaml.Node, parent *unit) {
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		key, v := mapping.Content[i], mapping.Content[i+1]
		u := f.add(key, parent)
		f.text(key)
		switch v.Kind {
		case yaml.MappingNode:
			f.keys(v, u)
		case yaml.SequenceNode:
			for _, n := range v.Content {
				one := f.add(n, u)
				if n.Kind != yaml.MappingNode {
					f.text(n)
					continue
				}
				one.entry = true
				f.keys(n, one)
			}
		default:
			f.text(v)
		}
	}
}

// text notes where a scalar stands.
func (f *formatter) text(n *yaml.Node) {
	from := f.src.offset(n)
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		from = f.src.contentStart(n)
	}
	f.scalars = append(f.scalars, [2]int{from, f.src.valueEnd(n)})
}

func (f *formatter) inText(offset int) bool {
	return slices.ContainsFunc(f.scalars, func(s [2]int) bool { return s[0] <= offset && offset < s[1] })
}

// comment is that of a line, "" without one; own says that it stands alone.
func (f *formatter) comment(line int) (text string, column int, own bool) {
	data := f.src.line(line)
	start := f.src.lines[line-1]
	for i, c := range data {
		if c == '#' && (i == 0 || isBlank(data[i-1])) && !f.inText(start+i) {
			return strings.TrimRight(string(data[i:]), " \t"), i + 1, len(bytes.TrimSpace(data[:i])) == 0
		}
	}
	return "", 0, false
}

// comments are all comments of the file, sorted.
func (f *formatter) comments() []string {
	var all []string
	for n := 1; n <= len(f.src.lines); n++ {
		if text, _, _ := f.comment(n); text != "" {
			all = append(all, text)
		}
	}
	slices.Sort(all)
	return all
}

// waiting is a comment or a blank line that is not attached yet.
type waiting struct {
	text   string
	column int // 0: blank
}

// attach gives every comment to a unit.
func (f *formatter) attach() {
	var pending []waiting
	for n := 1; n <= len(f.src.lines); n++ {
		text, column, own := f.comment(n)
		blank := len(bytes.TrimSpace(f.src.line(n))) == 0
		switch {
		case own:
			pending = append(pending, waiting{text, column})
			continue
		case blank && !f.inText(f.src.lines[n-1]):
			pending = append(pending, waiting{})
			continue
		}
		if at := f.starting(n); at >= 0 {
			f.above(at, pending)
			pending = nil
		}
		if text != "" {
			f.beside(n, text)
		}
	}
	f.above(len(f.order), pending)
}

// starting is the first unit that begins in a line, -1 without one.
func (f *formatter) starting(line int) int {
	return slices.IndexFunc(f.order, func(u *unit) bool { return u.line == line })
}

// above attaches what stands in front of unit at. What is indented deeper than
// that belongs to what came before; at the end of the file, the rest is the file's.
func (f *formatter) above(at int, pending []waiting) {
	column, target := 1, &f.tail
	if at < len(f.order) {
		column, target = f.order[at].column, &f.order[at].before
	}
	for at > 0 && len(pending) > 0 {
		n := slices.IndexFunc(pending, func(w waiting) bool { return w.column > 0 })
		if n < 0 || pending[n].column <= column {
			break
		}
		u := f.order[at-1]
		for u.parent != nil && pending[n].column < u.column {
			u = u.parent
		}
		if f.inside(at, u) {
			break
		}
		for _, w := range pending[:n+1] {
			u.foot = append(u.foot, w.text)
		}
		pending = pending[n+1:]
	}
	for _, w := range pending {
		*target = append(*target, w.text)
	}
	if at == 0 && len(f.order) > 0 {
		f.split()
	}
}

// inside reports whether unit at is a part of u, so that u does not end there.
func (f *formatter) inside(at int, u *unit) bool {
	if at == len(f.order) {
		return false
	}
	p := f.order[at].parent
	for p != nil && p != u {
		p = p.parent
	}
	return p != nil
}

// split leaves what is separated by a blank line from the first unit to the
// file: it stays on top when the unit moves.
func (f *formatter) split() {
	u := f.order[0]
	for i := len(u.before) - 1; i >= 0; i-- {
		if u.before[i] == "" {
			f.head, u.before = u.before[:i+1], u.before[i+1:]
			return
		}
	}
}

// beside attaches a comment behind something to the leftmost key or item of its
// line, or to what goes on there.
func (f *formatter) beside(line int, text string) {
	var u *unit
	for _, o := range f.order {
		if o.entry && len(o.node.Content) > 0 {
			continue
		}
		if o.line < line || o.line == line && (u == nil || u.line < line) {
			u = o
		}
	}
	if u == nil {
		f.head = append(f.head, text)
		return
	}
	u.behind = append(u.behind, text)
}
