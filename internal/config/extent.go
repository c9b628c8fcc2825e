package config

import (
	"bytes"

	"go.yaml.in/yaml/v3"
)

// The parser says where a node begins. This file finds where one ends.

// scalarEnd is the offset behind a scalar that is a key or an item of a list.
func (s *source) scalarEnd(n *yaml.Node) int {
	at := s.offset(n)
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		return s.quoteEnd(at)
	}
	if n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0 {
		return s.textEnd(n)
	}
	return min(at+len(n.Value), len(s.data))
}

// quoteEnd is the offset behind the string whose opening quote is at at.
func (s *source) quoteEnd(at int) int {
	quote := s.data[at]
	for at++; at < len(s.data); at++ {
		switch {
		case s.data[at] == '\\' && quote == '"':
			at++
		case s.data[at] == quote && quote == '\'' && at+1 < len(s.data) && s.data[at+1] == quote:
			at++
		case s.data[at] == quote:
			return at + 1
		}
	}
	return len(s.data)
}

// flow is where a flow collection ends.
type flow struct {
	last  int  // behind its last element or comma, behind its bracket when empty
	comma bool // that was a comma
	close int  // its closing bracket
}

// flowEnd walks a flow collection that opens at at.
func (s *source) flowEnd(at int) flow {
	var f flow
	depth, before, significant := 0, byte(' '), byte(' ')
	for at < len(s.data) {
		c := s.data[at]
		switch {
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			if depth--; depth == 0 {
				f.close = at
				return f
			}
		case (c == '"' || c == '\'') && bytes.IndexByte([]byte("[{,:"), significant) >= 0:
			at = s.quoteEnd(at)
			f.last, f.comma, before, significant = at, false, c, c
			continue
		case c == '#' && isBlank(before):
			end := bytes.IndexByte(s.data[at:], '\n')
			if end < 0 {
				end = len(s.data) - at
			}
			at, before = at+end, '\n'
			continue
		}
		if !isBlank(c) {
			f.last, f.comma, significant = at+1, c == ',' && depth == 1, c
		}
		before = c
		at++
	}
	f.close = at
	return f
}

func isBlank(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

// sectionEnd is the line behind which a new key of a block mapping goes. The
// file's own mapping takes the comments at its end.
func (s *source) sectionEnd(section *yaml.Node, root bool) int {
	last := s.lastLine(section)
	if !root || section.Column > 1 {
		return last
	}
	for n := last + 1; n <= len(s.lines); n++ {
		text := s.line(n)
		if bytes.HasPrefix(text, []byte("...")) {
			break
		}
		if len(bytes.TrimSpace(text)) > 0 {
			last = n
		}
	}
	return last
}

// lastLine is the line in which the last scalar or bracket of a node ends.
func (s *source) lastLine(n *yaml.Node) int {
	if n.Kind == yaml.ScalarNode {
		return s.lineOf(max(s.valueEnd(n)-1, 0))
	}
	if n.Style&yaml.FlowStyle != 0 {
		return s.lineOf(s.flowEnd(s.offset(n)).close)
	}
	line := n.Line
	for _, child := range n.Content {
		if isEmpty(child) {
			continue
		}
		line = max(line, s.lastLine(child))
	}
	return line
}

// valueEnd is scalarEnd for values of any length: run: may span lines.
func (s *source) valueEnd(n *yaml.Node) int {
	if n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0 {
		return s.scalarEnd(n)
	}
	return s.textEnd(n)
}
