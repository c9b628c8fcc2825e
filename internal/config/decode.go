package config

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// decoder turns nodes into a Config and collects what is wrong with them.
type decoder struct {
	src  *source
	cfg  *Config
	errs policy.Errors
}

func (d *decoder) fail(n *yaml.Node, msg, hint string) {
	d.errs = append(d.errs, policy.NewError(d.src.posOf(n), msg, hint))
}

// field reads the value of one key.
type field struct {
	key  string
	read func(v *yaml.Node)
}

// document reads the top level; root is nil for an empty file.
func (d *decoder) document(root *yaml.Node) {
	const hint = "begin the file with version: 1"
	if root == nil {
		d.errs = append(d.errs, policy.NewError(d.src.pos(1, 1), "empty file", hint))
		return
	}
	spec := &d.cfg.Spec
	version := false
	fields := []field{
		{"version", func(v *yaml.Node) { version = true; d.version(v) }},
		{"mode", func(v *yaml.Node) { d.mode(v) }},
		{"extra_ca", func(v *yaml.Node) { d.cfg.ExtraCA = d.paths(v) }},
		{"ech", func(v *yaml.Node) { spec.ECH = d.choice(v, "allow") }},
		{string(policy.BlockedRules), func(v *yaml.Node) { spec.KnownBlocked = d.texts(v) }},
		{string(policy.PrivateRules), func(v *yaml.Node) { spec.AllowPrivate = d.texts(v) }},
		{"steps", func(v *yaml.Node) { d.steps(v) }},
		{"builder", func(v *yaml.Node) { d.builder(v) }},
		{"check", func(v *yaml.Node) { d.check(v) }},
	}
	d.mapping(root, append(fields, d.lists(&spec.Rules)...))
	if !version {
		d.errs = append(d.errs, policy.NewError(d.src.posOf(root), "version missing", hint))
	}
}

func (d *decoder) lists(texts *policy.RuleTexts) []field {
	var fields []field
	for _, l := range policy.AllowLists() {
		fields = append(fields, field{string(l), func(v *yaml.Node) { *texts.Of(l) = d.texts(v) }})
	}
	return fields
}

// mapping reads the keys of a mapping, each at most once and all of them known.
func (d *decoder) mapping(n *yaml.Node, fields []field) {
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			d.fail(key, kindOf(key)+" as a key", "quote values that begin with [ or {")
			continue
		}
		if first, ok := seen[key.Value]; ok {
			d.fail(key, "duplicate key "+strconv.Quote(key.Value), "it stands in line "+strconv.Itoa(first)+" already; put both values there")
			continue
		}
		seen[key.Value] = key.Line
		at := slices.IndexFunc(fields, func(f field) bool { return f.key == key.Value })
		if at < 0 {
			d.fail(key, "unknown key "+strconv.Quote(key.Value), nearest(key.Value, fields))
			continue
		}
		fields[at].read(value)
	}
}

func (d *decoder) version(v *yaml.Node) {
	if v.Kind != yaml.ScalarNode || v.ShortTag() != "!!int" {
		d.fail(v, kindOf(v)+" instead of a version number", "write version: 1")
		return
	}
	if v.Value != strconv.Itoa(Version) {
		d.fail(v, "version "+v.Value+" is not supported", "this program reads version 1; a newer file needs a newer program")
	}
}

func (d *decoder) mode(v *yaml.Node) {
	if text := d.choice(v, string(policy.Restrict), string(policy.Audit)); text != "" {
		d.cfg.Spec.Mode = policy.Mode(text)
	}
}

// choice reads one of some words, "" after an error.
func (d *decoder) choice(v *yaml.Node, words ...string) string {
	if v.Kind == yaml.ScalarNode && v.ShortTag() == "!!str" && slices.Contains(words, v.Value) {
		return v.Value
	}
	what := kindOf(v)
	if v.Kind == yaml.ScalarNode && v.Value != "" {
		what = strconv.Quote(v.Value)
	}
	d.fail(v, what+" is not a value here", "write "+strings.Join(words, " or "))
	return ""
}

// text reads a string that is not empty, "" after an error. White space around
// it is not meant: a block scalar always ends with a line break.
func (d *decoder) text(v *yaml.Node) string {
	if v.Kind != yaml.ScalarNode || v.ShortTag() != "!!str" {
		d.fail(v, kindOf(v)+" instead of text", "write text; quote it if it looks like something else")
		return ""
	}
	text := strings.TrimSpace(v.Value)
	if text == "" {
		d.fail(v, "empty text", "remove the key, or write a value")
	}
	return text
}

func (d *decoder) paths(v *yaml.Node) []string {
	items := []*yaml.Node{v}
	if v.Kind == yaml.SequenceNode {
		items = v.Content
	}
	var paths []string
	for _, item := range items {
		if path := d.text(item); path != "" {
			paths = append(paths, path)
		}
	}
	return paths
}

// texts reads a list of rules: a YAML list, a string of rules separated by
// white space, or nothing.
func (d *decoder) texts(v *yaml.Node) []policy.Text {
	switch {
	case isEmpty(v):
		return nil
	case v.Kind == yaml.ScalarNode && v.ShortTag() == "!!str":
		var texts []policy.Text
		offsets := d.src.fields(v)
		for i, f := range policy.Split(v.Value) {
			texts = append(texts, policy.Text{Text: f.Text, Pos: d.src.posAt(offsets[i])})
		}
		return texts
	case v.Kind != yaml.SequenceNode:
		d.fail(v, kindOf(v)+" instead of a list of rules", "write a list, or a string of rules separated by spaces")
		return nil
	}
	var texts []policy.Text
	for _, item := range v.Content {
		switch {
		case isEmpty(item):
			d.fail(item, "empty rule", "remove the item, or write a rule")
		case item.Kind == yaml.MappingNode:
			d.fail(item, "mapping instead of a rule", "write HOST:PORT without a space after the colon, and quote braces")
		case item.Kind != yaml.ScalarNode || item.ShortTag() != "!!str":
			d.fail(item, kindOf(item)+" instead of a rule", "quote the rule")
		default:
			texts = append(texts, policy.Text{Text: item.Value, Pos: d.src.posOf(item)})
		}
	}
	return texts
}
