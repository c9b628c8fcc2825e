package config

import (
	"bytes"
	"strconv"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// fields returns the offset of each rule in a string of rules. Rules can be
// found because they hold no white space: in plain and block scalars they
// stand there as they are, in quoted ones they may be spelled with escapes.
func (s *source) fields(n *yaml.Node) []int {
	at := s.contentStart(n)
	double := n.Style&yaml.DoubleQuotedStyle != 0
	var offsets []int
	for _, f := range policy.Split(n.Value) {
		at = s.skipSpace(at, double)
		offsets = append(offsets, min(at, len(s.data)))
		at = s.skipText(at, len(f.Text), n.Style)
	}
	return offsets
}

// textEnd is the offset behind the last rule of a string of rules; without
// any, where the content begins.
func (s *source) textEnd(n *yaml.Node) int {
	at := s.contentStart(n)
	for _, f := range policy.Split(n.Value) {
		at = s.skipSpace(at, n.Style&yaml.DoubleQuotedStyle != 0)
		at = s.skipText(at, len(f.Text), n.Style)
	}
	return min(at, len(s.data))
}

// contentStart is behind the opening quote, or behind the header of a block scalar.
func (s *source) contentStart(n *yaml.Node) int {
	at := s.offset(n)
	switch {
	case n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle) != 0:
		at++
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		end := bytes.IndexByte(s.data[min(at, len(s.data)):], '\n')
		if end < 0 {
			return len(s.data)
		}
		at += end + 1
	}
	return at
}

// skipSpace skips white space, in a double-quoted scalar also escaped.
func (s *source) skipSpace(at int, double bool) int {
	for at < len(s.data) {
		switch c := s.data[at]; {
		case c == ' ' || c >= '\t' && c <= '\r':
			at++
		case double && c == '\\':
			size, width, space := escape(s.data[at:])
			if width > 0 && !space {
				return at
			}
			at += size
		default:
			return at
		}
	}
	return at
}

// skipText skips the spelling of n bytes of value.
func (s *source) skipText(at, n int, style yaml.Style) int {
	for n > 0 && at < len(s.data) {
		switch {
		case style&yaml.DoubleQuotedStyle != 0 && s.data[at] == '\\':
			size, width, _ := escape(s.data[at:])
			at, n = at+size, n-width
		case style&yaml.SingleQuotedStyle != 0 && s.data[at] == '\'':
			at, n = at+2, n-1
		default:
			at, n = at+1, n-1
		}
	}
	return at
}

// escape measures an escape sequence of a double-quoted scalar: its size in
// the source, the width of its value in bytes, and whether that is a space
// that separates rules. An escaped line break has no value.
func escape(data []byte) (size, width int, space bool) {
	if len(data) < 2 {
		return 1, 1, false
	}
	var digits int
	switch data[1] {
	case '\r', '\n':
		rest := bytes.TrimLeft(data[1:], "\r\n")
		return len(data) - len(bytes.TrimLeft(rest, " \t")), 0, false
	case 'n', 't', 'r', 'v', 'f', ' ', '\t':
		return 2, 1, true
	case 'N', '_':
		return 2, 2, false
	case 'L', 'P':
		return 2, 3, false
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	default:
		return 2, 1, false
	}
	code, err := strconv.ParseUint(string(data[2:min(2+digits, len(data))]), 16, 31)
	if err != nil {
		return 2, 1, false
	}
	r := rune(code)
	return 2 + digits, max(utf8.RuneLen(r), 1), r == ' ' || r >= '\t' && r <= '\r'
}
