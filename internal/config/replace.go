package config

import (
	"bytes"
	"strings"
)

// Replace puts other rules in the place of some, by their position in a file
// that Format has laid out. No rule takes one away, with the comment behind it;
// comments on lines of their own stay. The result is formatted.
func Replace(path string, formatted []byte, by map[string][]string) ([]byte, error) {
	src := newSource(path, formatted)
	root, err := src.parse()
	if err != nil {
		return nil, err
	}
	f := &formatter{src: src}
	f.units(root)
	var out bytes.Buffer
	out.WriteString(src.bom)
	for n := 1; n <= len(src.lines); n++ {
		line := string(src.line(n))
		indent := len(line) - len(strings.TrimLeft(line, " "))
		rules, ok := by[src.pos(n, indent+len("- ")+1)]
		if !ok {
			out.WriteString(line)
			if n < len(src.lines) {
				out.WriteByte('\n')
			}
			continue
		}
		comment, _, _ := f.comment(n)
		for _, r := range rules {
			out.WriteString(line[:indent] + "- " + quote(r))
			if comment != "" {
				out.WriteString(" " + comment)
				comment = ""
			}
			out.WriteByte('\n')
		}
	}
	return Format(path, out.Bytes())
}
