package cli

import (
	"fmt"
	"io"
)

// printer writes lines for a person. Everything on them is made safe for a
// terminal; the first error stays.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, safe(fmt.Sprintf(format, args...)))
	}
}

// field is one "name value" line below a heading; nothing without a value.
func (p *printer) field(name, value string) {
	if value != "" {
		p.line("  %-8s %s", name, value)
	}
}

// safe keeps indentation, and makes the rest one printable line.
func safe(s string) string {
	n := 0
	for n < len(s) && s[n] == ' ' {
		n++
	}
	return s[:n] + oneLine(s[n:])
}
