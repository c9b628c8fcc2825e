package event

import (
	"errors"
	"strings"
)

// MaxText is the longest text that Escape returns.
const MaxText = 1024

// Mark stands where text was cut out of the middle. Escaped text holds a
// backslash only as \xNN, so the mark can't be forged.
const Mark = `\...`

// ErrCut says that the original of a text is gone because it was cut.
var ErrCut = errors.New("text was cut")

const hex = "0123456789abcdef"

// Escape makes bytes from the wire storable and printable: printable ASCII
// (0x20 to 0x7e) stays, everything else and the backslash become \xNN. A
// result beyond MaxText keeps its head and its tail around Mark.
func Escape(s string) string { return EscapeMax(s, MaxText) }

// EscapeMax is Escape with another limit for the result.
func EscapeMax(s string, limit int) string {
	// Each input byte yields at least one, so what lies beyond the limit at
	// both ends can't be part of the result: a megabyte costs no more than a line.
	if far := 2 * (limit + len(Mark)); len(s) > far {
		return cut(encode(s[:far/2], true)+Mark+encode(s[len(s)-far/2:], true), limit)
	}
	return cut(encode(s, true), limit)
}

// Clean is the last line of defence for text that should have been escaped
// already: it replaces whatever is not printable and leaves the rest, the
// backslash too, as it is. Clean of escaped text is that text.
func Clean(s string) string { return encode(s, false) }

// Printable says that s holds nothing but printable ASCII.
func Printable(s string) bool {
	for i := range len(s) {
		if !printable(s[i]) {
			return false
		}
	}
	return true
}

// Unescape returns the bytes that Escape was given.
func Unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			if !printable(s[i]) {
				return "", errors.New("text is not escaped")
			}
			b.WriteByte(s[i])
			i++
			continue
		}
		if strings.HasPrefix(s[i:], Mark) {
			return "", ErrCut
		}
		if !escaped(s[i:]) {
			return "", errors.New("backslash without two hexadecimal digits")
		}
		b.WriteByte(byte(strings.IndexByte(hex, s[i+2])<<4 | strings.IndexByte(hex, s[i+3])))
		i += 4
	}
	return b.String(), nil
}

func printable(c byte) bool { return 0x20 <= c && c <= 0x7e }

func encode(s string, backslash bool) string {
	if Printable(s) && (!backslash || !strings.Contains(s, `\`)) {
		return s
	}
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; !printable(c) || backslash && c == '\\' {
			b.WriteString(`\x`)
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// escaped says that s starts with \xNN.
func escaped(s string) bool {
	return len(s) >= 4 && s[:2] == `\x` && strings.IndexByte(hex, s[2]) >= 0 && strings.IndexByte(hex, s[3]) >= 0
}

// cut shortens s to at most limit bytes: head, Mark, tail. It never splits an
// escape sequence or an earlier Mark.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	half := max(0, limit-len(Mark)) / 2
	head, tail := 0, len(s)
	for i := 0; i < len(s); {
		n := 1
		if escaped(s[i:]) || strings.HasPrefix(s[i:], Mark) {
			n = 4
		}
		if i+n <= half {
			head = i + n
		}
		if len(s)-i <= half {
			tail = min(tail, i)
		}
		i += n
	}
	return s[:head] + Mark + s[tail:]
}

// maxLabel is the longest label that is shown whole where everybody reads
// along; host names that people mean stay below, a digest of SHA-1 or a UUID too.
const maxLabel = 40

// ShortLabels shortens what could be data in place of a name: each run of more
// than 40 characters of a host name's label, or of escaped bytes, keeps a bit of its
// head and of its tail around Mark. s is escaped text. What could not leave
// the cage as a name is not to leave it as a line of a public log.
func ShortLabels(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		n := run(s[i:])
		switch {
		case n > maxLabel:
			b.WriteString(cut(s[i:i+n], maxLabel/2))
		case n > 0:
			b.WriteString(s[i : i+n])
		default:
			b.WriteByte(s[i])
			n = 1
		}
		i += n
	}
	return b.String()
}

// run is how many bytes at the start of s can be one label.
func run(s string) (n int) {
	for n < len(s) {
		c := s[n]
		switch {
		case c >= '0' && c <= '9', c >= 'A' && c <= 'Z', c >= 'a' && c <= 'z', strings.IndexByte("-_=+%", c) >= 0:
			n++
		case escaped(s[n:]):
			n += 4
		default:
			return n
		}
	}
	return n
}
