package proxy

import (
	"bytes"
	"strings"
)

// field is one line of a header, as places in the bytes of the head: the name,
// and the value without the spaces around it.
type field struct {
	name, colon int32
	value, end  int32
	kind        kind
}

func (f field) nameOf(b []byte) []byte  { return b[f.name:f.colon] }
func (f field) valueOf(b []byte) []byte { return b[f.value:f.end] }

// appendTo writes the field of head b as a line.
func (f field) appendTo(out, b []byte) []byte {
	out = append(out, f.nameOf(b)...)
	out = append(out, ": "...)
	out = append(out, f.valueOf(b)...)
	return append(out, "\r\n"...)
}

// kind is what a field means here.
type kind uint8

const (
	other kind = iota
	hostField
	lengthField
	agentField
	expectField
	pragmaField
	underscoreField // some servers take _ for -
	// The rest belongs to one connection; see hopByHop.
	connectionField
	upgradeField
	encodingField
	trailerField
	teField
	hopField
)

func kindOf(name []byte) kind {
	switch len(name) {
	case 2:
		return if1(name, "te", teField)
	case 4:
		return if1(name, "host", hostField)
	case 6:
		return if1(name, "expect", expectField) | if1(name, "pragma", pragmaField)
	case 7:
		return if1(name, "upgrade", upgradeField) | if1(name, "trailer", trailerField)
	case 10:
		return if1(name, "connection", connectionField) | if1(name, "user-agent", agentField) | if1(name, "keep-alive", hopField)
	case 14:
		return if1(name, "content-length", lengthField) | if1(name, "content_length", underscoreField) | if1(name, "http2-settings", hopField)
	case 16:
		return if1(name, "proxy-connection", hopField)
	case 17:
		return if1(name, "transfer-encoding", encodingField) | if1(name, "transfer_encoding", underscoreField)
	case 18:
		return if1(name, "proxy-authenticate", hopField)
	case 19:
		return if1(name, "proxy-authorization", hopField)
	}
	return other
}

// if1 is k where name is that of lower, in whatever case, else other.
func if1(name []byte, lower string, k kind) kind {
	if same(name, lower) {
		return k
	}
	return other
}

// same compares a name with one in lower case. Only ASCII letters have a case.
func same(name []byte, lower string) bool {
	if len(name) != len(lower) {
		return false
	}
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// named reports whether a field is one of the tokens of Connection.
func named(name []byte, connection []string) bool {
	for _, t := range connection {
		if same(name, t) {
			return true
		}
	}
	return false
}

// splitField takes the line at b[from:to], without its CRLF, apart. fault says
// what is wrong with it, "" if nothing.
func splitField(b []byte, from, to int) (f field, fault string) {
	colon := bytes.IndexByte(b[from:to], ':')
	if colon < 0 || !isToken(b[from:from+colon]) { // a folded line begins with a space, which is no token
		return f, "header field name"
	}
	colon += from
	start := colon + 1
	if !isFieldValue(b[start:to]) {
		return f, "control character in a header field"
	}
	for start < to && (b[start] == ' ' || b[start] == '\t') {
		start++
	}
	for start < to && (b[to-1] == ' ' || b[to-1] == '\t') {
		to--
	}
	return field{int32(from), int32(colon), int32(start), int32(to), kindOf(b[from:colon])}, ""
}

// tokenLow and tokenHigh are the characters of a token below 64 and above, a bit each.
const (
	tokenLow  = 0x03ff6cfa00000000
	tokenHigh = 0x57ffffffc7fffffe
)

func isToken(s []byte) bool {
	for _, c := range s {
		mask := uint64(tokenLow)
		if c >= 64 {
			mask = tokenHigh
		}
		if c >= 128 || mask>>(c&63)&1 == 0 {
			return false
		}
	}
	return len(s) > 0
}

func isFieldValue(s []byte) bool {
	for _, c := range s {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func isLength(s []byte) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(s) > 0 && len(s) <= 18
}

// appendTokens adds the tokens of a value, in lower case.
func appendTokens(list []string, value []byte) []string {
	for len(value) > 0 {
		token, rest, _ := bytes.Cut(value, []byte(","))
		value = rest
		switch token = bytes.Trim(token, " \t"); {
		case len(token) == 0:
		case same(token, "close"):
			list = append(list, "close")
		case same(token, "keep-alive"):
			list = append(list, "keep-alive")
		default:
			list = append(list, strings.ToLower(string(token)))
		}
	}
	return list
}

func tokens(value string) []string { return appendTokens(nil, []byte(value)) }
