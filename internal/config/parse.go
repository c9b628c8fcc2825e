package config

import (
	"bytes"
	"errors"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// parse returns the root mapping of the one document, nil for a file of
// comments only. Anchors, aliases, merge keys and tags are refused: a policy
// must read the same to everybody.
func (s *source) parse() (*yaml.Node, error) {
	if errs := s.check(); len(errs) > 0 {
		return nil, errs
	}
	decoder := yaml.NewDecoder(bytes.NewReader(s.data))
	var doc, more yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) {
		return nil, nil
	}
	if err != nil {
		return nil, policy.Errors{s.syntax(err)}
	}
	if err := decoder.Decode(&more); err == nil {
		return nil, policy.Errors{policy.NewError(s.posOf(&more), "second document", "keep one document in the file; remove the --- line")}
	} else if !errors.Is(err, io.EOF) {
		return nil, policy.Errors{s.syntax(err)}
	}
	if errs := s.plain(&doc, nil); len(errs) > 0 {
		return nil, errs
	}
	root := doc.Content[0]
	if isEmpty(root) {
		return nil, nil
	}
	if root.Kind != yaml.MappingNode {
		return nil, policy.Errors{policy.NewError(s.posOf(root), kindOf(root)+" instead of keys and values", "begin with version: 1")}
	}
	return root, nil
}

// plain collects everything that makes a node more than it looks.
func (s *source) plain(n *yaml.Node, errs policy.Errors) policy.Errors {
	const hint = "write the value out where it is used"
	quoted := "quote rules that begin with a special character, for example \"*.example.com\""
	switch {
	case n.Kind == yaml.AliasNode:
		return append(errs, policy.NewError(s.posOf(n), "alias *"+n.Value, hint+"; "+quoted))
	case n.Anchor != "":
		errs = append(errs, policy.NewError(s.posOf(n), "anchor &"+n.Anchor, hint))
	case n.Style&yaml.TaggedStyle != 0:
		errs = append(errs, policy.NewError(s.posOf(n), "tag "+n.Tag, "remove the tag; quote the value if it is text"))
	case n.ShortTag() == "!!merge":
		return append(errs, policy.NewError(s.posOf(n), "merge key <<", hint))
	}
	for _, child := range n.Content {
		errs = s.plain(child, errs)
	}
	return errs
}

func isEmpty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" && n.Value == ""
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "mapping"
	case yaml.SequenceNode:
		return "list"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "number"
	case "!!bool":
		return "boolean"
	case "!!null":
		return "null"
	case "!!timestamp":
		return "date"
	}
	return "text"
}

// syntax gives the parser's error a position. The parser names at best the
// line where the enclosing block began, so the line is searched: it follows
// the longest run of lines that parses.
func (s *source) syntax(err error) *policy.Error {
	msg := regexp.MustCompile(`^yaml: (line \d+: )?`).ReplaceAllString(err.Error(), "")
	line := s.badLine()
	text := string(s.line(line))
	column := len(text) - len(strings.TrimLeft(text, " \t")) + 1
	hint := "check the indentation, and quote what has special characters"
	star := regexp.MustCompile(`(^|[\s\[,])(\*)`).FindStringSubmatchIndex(text)
	switch {
	case star != nil:
		column = star[4] + 1
		msg = "unquoted *, which YAML takes for an alias"
		hint = `quote rules that begin with *, for example "*.example.com"`
	case strings.Contains(text, "]:"):
		hint = `quote v6 addresses, for example "[2001:db8::1]:443"`
	}
	return policy.NewError(s.pos(line, column), msg, hint)
}

// maxSearch bounds the work of badLine for a file that is not YAML at all.
const maxSearch = 500

func (s *source) badLine() int {
	good := 0
	for n := min(len(s.lines)-1, maxSearch); n > 0 && good == 0; n-- {
		var doc yaml.Node
		if again := yaml.Unmarshal(s.data[:s.lines[n]], &doc); again == nil {
			good = n
		}
	}
	for n := good + 1; n <= len(s.lines); n++ {
		if text := bytes.TrimSpace(s.line(n)); len(text) > 0 && text[0] != '#' {
			return n
		}
	}
	return min(good+1, len(s.lines))
}
