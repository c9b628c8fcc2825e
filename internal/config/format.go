package config

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// Format returns a file in its canonical layout: keys in the order of the
// documentation, lists as lists with two spaces a level, quotes only where they
// are needed. Rules and entries keep their order, because it decides; every
// comment is kept, and so is a blank line between things. The file must be
// valid. Formatting the result again changes nothing.
func Format(path string, data []byte) ([]byte, error) {
	before, err := Load(path, data)
	if err != nil {
		return nil, err
	}
	src := newSource(path, data)
	root, err := src.parse()
	if err != nil {
		return nil, err
	}
	f := &formatter{src: src}
	f.units(root)
	f.attach()
	f.write(root)
	text := strings.TrimRight(f.out.String(), "\n") + "\n"
	if bytes.Contains(data, []byte("\r\n")) {
		text = strings.ReplaceAll(text, "\n", "\r\n")
	}
	out := []byte(src.bom + text)
	return out, f.verify(before, out)
}

// verify is the last word on a layout: the same policy, and every comment.
func (f *formatter) verify(before *Config, out []byte) error {
	after, err := Load(f.src.path, out)
	if err != nil {
		return fmt.Errorf("checking the formatted %s: %w", f.src.path, err)
	}
	if !reflect.DeepEqual(content(before), content(after)) {
		return fmt.Errorf("checking the formatted %s: %w", f.src.path, errors.New("it would mean something else; nothing is changed"))
	}
	again := &formatter{src: newSource(f.src.path, out)}
	root, err := again.src.parse()
	if err != nil {
		return fmt.Errorf("checking the formatted %s: %w", f.src.path, err)
	}
	again.units(root)
	if !slices.Equal(f.comments(), again.comments()) {
		return fmt.Errorf("checking the formatted %s: %w", f.src.path, errors.New("a comment would be lost; nothing is changed"))
	}
	return nil
}

// content is a configuration without positions.
func content(c *Config) Config {
	plain := Config{ExtraCA: c.ExtraCA, Spec: c.Spec, Accepted: unplaced(c.Accepted)}
	s := &plain.Spec
	s.KnownBlocked, s.AllowPrivate = unplaced(s.KnownBlocked), unplaced(s.AllowPrivate)
	s.Rules = unplacedRules(s.Rules)
	s.Steps = slices.Clone(s.Steps)
	for i := range s.Steps {
		s.Steps[i].Pos = ""
		s.Steps[i].Rules = unplacedRules(s.Steps[i].Rules)
	}
	if s.Builder != nil {
		rules := unplacedRules(*s.Builder)
		s.Builder = &rules
	}
	return plain
}

func unplaced(texts []policy.Text) []policy.Text {
	var out []policy.Text
	for _, t := range texts {
		out = append(out, policy.Text{Text: t.Text})
	}
	return out
}

func unplacedRules(r policy.RuleTexts) policy.RuleTexts {
	for _, l := range policy.AllowLists() {
		*r.Of(l) = unplaced(*r.Of(l))
	}
	return r
}

// canonicalOrder is the order of keys at any level.
func canonicalOrder() []string {
	order := []string{"version", "mode", "run", "stage", "lines", "secrets", "network", "accept"}
	for _, l := range policy.AllowLists() {
		order = append(order, string(l))
	}
	return append(order, "max_upload", string(policy.BlockedRules), string(policy.PrivateRules),
		"extra_ca", "ech", "steps", "builder", "check")
}

// pairs are the keys and values of a mapping in canonical order.
func pairs(mapping *yaml.Node) [][2]*yaml.Node {
	var list [][2]*yaml.Node
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		list = append(list, [2]*yaml.Node{mapping.Content[i], mapping.Content[i+1]})
	}
	order := canonicalOrder()
	slices.SortStableFunc(list, func(a, b [2]*yaml.Node) int {
		return slices.Index(order, a[0].Value) - slices.Index(order, b[0].Value)
	})
	return list
}

// write emits the file.
func (f *formatter) write(root *yaml.Node) {
	f.lines(f.head, 0)
	f.mapping(root, 0, f.out.Len() == 0)
	f.lines(f.tail, 0)
}

// mapping emits keys; first says that nothing stands above the first one, so
// that a blank line there would be loose.
func (f *formatter) mapping(n *yaml.Node, indent int, first bool) {
	for i, pair := range pairs(n) {
		f.pair(pair[0], pair[1], indent, first && i == 0)
	}
}

func (f *formatter) pair(key, v *yaml.Node, indent int, first bool) {
	u := f.unit[key]
	f.lead(u, indent, first)
	head := key.Value + ":"
	list, isList := itemsOf(key.Value, v)
	switch {
	case isList && len(list) == 0:
		f.line(u, indent, head+" []")
	case isList:
		f.line(u, indent, head)
		for i, item := range list {
			f.item(item, indent+2, i == 0)
		}
	case key.Value == "steps" && len(v.Content) > 0:
		f.line(u, indent, head)
		for i, entry := range v.Content {
			f.entry(entry, indent+2, i == 0)
		}
	case key.Value == "steps":
		f.line(u, indent, head+" []")
	case v.Kind == yaml.MappingNode && len(v.Content) > 0:
		f.line(u, indent, head)
		f.mapping(v, indent+2, true)
	case v.Kind == yaml.MappingNode || isEmpty(v):
		f.line(u, indent, head+" {}")
	default:
		f.line(u, indent, head+" "+scalar(v))
	}
	f.lines(u.foot, indent)
}

// item is an element of a list: a node, or a word of a string of rules.
type item struct {
	node *yaml.Node
	text string
}

// itemsOf are the elements of a value that is written as a list.
func itemsOf(key string, v *yaml.Node) (list []item, ok bool) {
	rules := strings.HasPrefix(key, "allow") || key == string(policy.BlockedRules)
	switch {
	case v.Kind == yaml.SequenceNode && key != "steps":
		for _, n := range v.Content {
			list = append(list, item{n, strings.TrimSpace(n.Value)})
		}
		return list, true
	case rules && v.Kind == yaml.ScalarNode:
		for _, field := range policy.Split(v.Value) {
			list = append(list, item{nil, field.Text})
		}
		return list, true
	}
	return nil, false
}

func (f *formatter) item(it item, indent int, first bool) {
	u := f.unit[it.node]
	if u == nil {
		u = &unit{}
	}
	f.lead(u, indent, first)
	f.line(u, indent, "- "+quote(it.text))
	f.lines(u.foot, indent)
}

// entry emits an entry of steps:. Its first key stands behind the dash; what
// belongs to that key goes above the entry.
func (f *formatter) entry(n *yaml.Node, indent int, first bool) {
	u := f.unit[n]
	if len(n.Content) == 0 {
		f.lead(u, indent, first)
		f.line(u, indent, "- {}")
		f.lines(u.foot, indent)
		return
	}
	keys := pairs(n)
	own := f.unit[keys[0][0]]
	u.before = append(u.before, own.before...)
	if len(own.behind) > 1 {
		u.before, own.behind = append(u.before, own.behind[1:]...), own.behind[:1]
	}
	own.before = nil
	f.lead(u, indent, first)
	at := f.out.Len()
	f.mapping(n, indent+2, true)
	text := f.out.String()
	rest := text[at:]
	f.out.Reset()
	f.out.WriteString(text[:at] + strings.Repeat(" ", indent) + "- " + rest[indent+2:])
	f.lines(u.foot, indent)
}
