package policy

import "strings"

const (
	maxName  = 253
	maxLabel = 63
)

// CanonicalName is the one spelling under which a name is judged, resolved and
// recorded: lower case, without its one trailing dot. ok is false for anything
// that is not a legal host name (RFC 1035 and 1123, plus the underscore):
// empty or long labels, other bytes, labels that begin or end with a hyphen,
// xn-- labels that are no punycode, and every spelling of an IPv4 address that
// inet_aton would take, which is any name whose last label is a number.
func CanonicalName(raw string) (name string, ok bool) {
	raw = strings.TrimSuffix(raw, ".")
	if raw == "" || len(raw) > maxName {
		return "", false
	}
	name = lower(raw)
	rest := name
	for {
		label, after, more := strings.Cut(rest, ".")
		if nameFault(label) != "" {
			return "", false
		}
		if !more {
			return name, !numeric(label)
		}
		rest = after
	}
}

// SingleLabel reports whether a canonical name has no dot. Such names are
// legal in rules; whether one can be an SNI is for the caller to say.
func SingleLabel(name string) bool { return name != "" && strings.IndexByte(name, '.') < 0 }

// lower folds ASCII only, so that no foreign letter can become an ASCII one.
func lower(s string) string {
	for i := 0; i < len(s); i++ {
		if s[i] >= 'A' && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if b[i] >= 'A' && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// nameFault says what is wrong with a literal lower-case label, "" if nothing.
func nameFault(label string) string {
	switch {
	case label == "":
		return "empty label"
	case len(label) > maxLabel:
		return "label longer than 63 bytes"
	}
	for i := 0; i < len(label); i++ {
		if !isNameByte(label[i]) {
			return "illegal character"
		}
	}
	switch {
	case label[0] == '-':
		return "label begins with a hyphen"
	case label[len(label)-1] == '-':
		return "label ends with a hyphen"
	case strings.HasPrefix(label, acePrefix) && !validALabel(label):
		return "label " + label + " is not valid punycode"
	}
	return ""
}

func isNameByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}

// numeric reports whether inet_aton and the URL standard read a last label as a number.
func numeric(label string) bool {
	digits, hex := strings.CutPrefix(label, "0x")
	for i := 0; i < len(digits); i++ {
		if c := digits[i]; (c < '0' || c > '9') && (!hex || c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
