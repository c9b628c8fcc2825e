package config

import (
	"bytes"
	"fmt"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/buildcage/buildcage/internal/policy"
)

// maxSize is far above any real policy and keeps a wrong file from being read as one.
const maxSize = 1 << 20

// source is the text of a file with its lines, so that positions of the parser
// and byte offsets can be turned into each other. lines[i] is where line i+1 begins.
type source struct {
	path  string
	bom   string // a byte order mark in front, kept when writing
	data  []byte
	lines []int
}

func newSource(path string, data []byte) *source {
	s := &source{path: path, data: data, lines: []int{0}}
	if rest, ok := bytes.CutPrefix(data, []byte("\ufeff")); ok {
		s.bom, s.data = "\ufeff", rest
	}
	for i, c := range s.data {
		if c == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	return s
}

// line is the text of a line, without its break.
func (s *source) line(n int) []byte {
	if n < 1 || n > len(s.lines) {
		return nil
	}
	end := len(s.data)
	if n < len(s.lines) {
		end = s.lines[n] - 1
	}
	return bytes.TrimSuffix(s.data[s.lines[n-1]:end], []byte("\r"))
}

// lineOf is the line that an offset stands in.
func (s *source) lineOf(offset int) int {
	n := 1
	for n < len(s.lines) && s.lines[n] <= offset {
		n++
	}
	return n
}

// offset of a node; the parser counts columns in characters.
func (s *source) offset(n *yaml.Node) int {
	if n.Line < 1 || n.Line > len(s.lines) {
		return len(s.data)
	}
	at := s.lines[n.Line-1]
	for i := 1; i < n.Column && at < len(s.data); i++ {
		_, size := utf8.DecodeRune(s.data[at:])
		at += size
	}
	return at
}

func (s *source) pos(line, column int) string {
	return fmt.Sprintf("%s:%d:%d", s.path, line, column)
}

func (s *source) posOf(n *yaml.Node) string { return s.pos(max(n.Line, 1), max(n.Column, 1)) }

func (s *source) posAt(offset int) string {
	line := s.lineOf(offset)
	return s.pos(line, utf8.RuneCount(s.data[s.lines[line-1]:offset])+1)
}

// check refuses what no policy needs and what parsers disagree about: bytes
// that are not UTF-8, control characters, foreign line breaks, and tabs in
// front of a line.
func (s *source) check() policy.Errors {
	if len(s.data) > maxSize {
		return policy.Errors{policy.NewError(s.pos(1, 1), "file larger than 1 MiB", "is this the right file?")}
	}
	var errs policy.Errors
	indent := true
	for i := 0; i < len(s.data) && len(errs) < 10; {
		r, size := utf8.DecodeRune(s.data[i:])
		if msg, hint := s.fault(i, r, size, indent); msg != "" {
			errs = append(errs, policy.NewError(s.posAt(i), msg, hint))
			indent = false
		}
		indent = r == '\n' || indent && (r == ' ' || r == '\t')
		i += size
	}
	return errs
}

func (s *source) fault(i int, r rune, size int, indent bool) (msg, hint string) {
	switch {
	case r == utf8.RuneError && size == 1:
		return "byte that is not UTF-8", "save the file as UTF-8"
	case r == '\t' && indent:
		rest := bytes.TrimLeft(s.data[i:], " \t\r")
		if len(rest) > 0 && rest[0] != '\n' && rest[0] != '#' {
			return "tab in the indentation", "indent with spaces"
		}
	case r == '\r' && (i+1 == len(s.data) || s.data[i+1] != '\n'):
		return "carriage return without line feed", "end lines with LF or CR LF"
	case r < ' ' && r != '\t' && r != '\n' && r != '\r', r == 0x7f:
		return fmt.Sprintf("control character %q", r), "remove it"
	case r >= 0x80 && r < 0xa0, r == '\u2028', r == '\u2029', r == '\ufeff':
		return fmt.Sprintf("invisible character %q", r), "remove it"
	}
	return "", ""
}
