package config

import (
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// This file writes lines and values for the formatter.

// lead writes what stands above a unit.
func (f *formatter) lead(u *unit, indent int, first bool) {
	lines := u.before
	for first && len(lines) > 0 && lines[0] == "" {
		lines = lines[1:]
	}
	f.lines(lines, indent)
	if len(u.behind) > 1 {
		f.lines(u.behind[1:], indent)
	}
}

// lines writes comments; blank ones never twice in a row, nor on top.
func (f *formatter) lines(lines []string, indent int) {
	for _, text := range lines {
		switch {
		case text != "":
			f.out.WriteString(strings.Repeat(" ", indent) + text + "\n")
		case f.out.Len() > 0 && !strings.HasSuffix(f.out.String(), "\n\n"):
			f.out.WriteString("\n")
		}
	}
}

func (f *formatter) line(u *unit, indent int, text string) {
	if len(u.behind) > 0 {
		text += " " + u.behind[0]
	}
	f.out.WriteString(strings.Repeat(" ", indent) + text + "\n")
}

// scalar is a value that is no list: as it is where it is no text.
func scalar(v *yaml.Node) string {
	switch v.ShortTag() {
	case "!!bool":
		return strings.ToLower(v.Value)
	case "!!str":
		if strings.Trim(v.Value, "0123456789-") == "" {
			return v.Value // a range of lines
		}
		return quote(strings.TrimSpace(v.Value))
	}
	return v.Value
}

// quote leaves alone what every YAML parser takes for text, and quotes the
// rest: in single quotes what has backslashes, else in double ones.
func quote(s string) string {
	plain := s != "" && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:/-") == "" && !strings.HasSuffix(s, ":")
	var n yaml.Node
	if plain && s[0] != '-' && yaml.Unmarshal([]byte(s), &n) == nil && len(n.Content) == 1 {
		if v := n.Content[0]; v.Kind == yaml.ScalarNode && v.ShortTag() == "!!str" && v.Value == s && !ambiguous(s) {
			return s
		}
	}
	printable := !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r > '~' })
	if strings.ContainsAny(s, `\"`) && printable {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return strconv.Quote(s)
}

// ambiguous are words that older parsers take for booleans or nothing, and what
// has no letter, which may be a number to them.
func ambiguous(s string) bool {
	switch strings.ToLower(s) {
	case "y", "n", "yes", "no", "on", "off", "true", "false", "null":
		return true
	}
	return !strings.ContainsAny(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz")
}
