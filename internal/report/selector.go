package report

import (
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// plain is a command as it ran, as far as the record tells. A backslash that
// escapes nothing is one of the command's own.
func plain(command string) string {
	var b strings.Builder
	for command != "" {
		c, size := first(command)
		if size == 0 { // what was cut out
			c, size = event.Mark, len(event.Mark)
		}
		b.WriteString(c)
		command = command[size:]
	}
	return b.String()
}

// selector is the narrowest glob for a command: the command itself. A * of it
// becomes a ?, which stands for one character and so for the * too. What the
// record had to cut becomes a *, and so does a control byte, which nobody could
// read in a policy file.
func selector(command string) string {
	var b strings.Builder
	for command != "" {
		c, size := first(command)
		switch {
		case size == 0:
			c, size = "*", len(event.Mark)
		case c == "*":
			c = "?"
		case c != "\n" && c != "\t" && c != "\r" && (c[0] < ' ' || c[0] == 0x7f):
			c = "*"
		}
		b.WriteString(c)
		command = command[size:]
	}
	return strings.TrimSpace(strings.ToValidUTF8(b.String(), "*"))
}

// first takes a byte off the text of a record; size is how long it is there, 0
// for the mark of a cut.
func first(text string) (c string, size int) {
	if strings.HasPrefix(text, event.Mark) {
		return "", 0
	}
	if len(text) >= 4 && text[0] == '\\' {
		if raw, err := event.Unescape(text[:4]); err == nil && event.Escape(raw) == text[:4] {
			return raw, 4
		}
	}
	return text[:1], 1
}
