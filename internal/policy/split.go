package policy

// Field is one rule of a whitespace-separated string.
type Field struct {
	Text   string
	Offset int // in bytes, from the start of the string
}

// Split takes a string of several rules apart at ASCII whitespace. A regex
// rule ends at whitespace like any other: what it is matched against never
// contains any. Nothing else separates or is skipped; a comma, a comment sign
// or a byte order mark becomes part of a rule that does not parse.
func Split(s string) []Field {
	var fields []Field
	start := -1
	for i := 0; i < len(s); i++ {
		if !isSpace(s[i]) {
			if start < 0 {
				start = i
			}
			continue
		}
		if start >= 0 {
			fields = append(fields, Field{s[start:i], start})
			start = -1
		}
	}
	if start >= 0 {
		fields = append(fields, Field{s[start:], start})
	}
	return fields
}

func isSpace(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r'
}
