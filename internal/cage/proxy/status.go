package proxy

import (
	"bytes"
	"net/http"
	"slices"
	"strconv"
)

// status is the head of a response that needs no interpretation: one length or
// none that matters, nothing about its framing else. It is read from the bytes
// as they came, and written from them.
type status struct {
	code       int
	http10     bool
	length     int64    // Content-Length, -1: none
	connection []string // tokens of all Connection fields, lower case

	bytes  []byte // of the head; the reader's
	line   int    // length of the status line without CRLF
	fields []field
}

// statusPrefix is how the status line begins, but for the version's last digit.
const statusPrefix = "HTTP/1."

// scan reads the head at the beginning of b, of which there has to be more. It
// does not fit where it is for net/http to read, or to refuse. What s held
// before is reused.
func (s *status) scan(b []byte) (fits, more bool) {
	*s = status{length: -1, connection: s.connection[:0], fields: s.fields[:0], bytes: b}
	for start := 0; ; {
		n := bytes.IndexByte(b[start:], '\n')
		if n < 0 {
			return false, true
		}
		end := start + n - 1
		switch {
		case n == 0 || b[end] != '\r':
			return false, false
		case start == 0:
			fits = s.statusLine(b[:end])
		case n == 1:
			s.bytes = b[:end+2]
			return true, false
		default:
			fits = len(s.fields) < maxFields && s.field(start, end)
		}
		if !fits {
			return false, false
		}
		start = end + 2
	}
}

// statusLine wants HTTP/1.x SP code SP reason.
func (s *status) statusLine(line []byte) bool {
	const version, code = len(statusPrefix), len(statusPrefix) + 2
	if len(line) < code+4 || string(line[:version]) != statusPrefix || line[version] != '1' && line[version] != '0' ||
		line[version+1] != ' ' || line[code+3] != ' ' || !isFieldValue(line) {
		return false
	}
	for _, c := range line[code : code+3] {
		if c < '0' || c > '9' {
			return false
		}
		s.code = 10*s.code + int(c-'0')
	}
	s.http10, s.line = line[version] == '0', len(bytes.TrimRight(line, " "))
	return s.code >= 200 && s.code < 600
}

func (s *status) field(from, to int) bool {
	f, fault := splitField(s.bytes, from, to)
	if fault != "" {
		return false
	}
	value := f.valueOf(s.bytes)
	switch f.kind {
	case lengthField:
		if s.length >= 0 || !isLength(value) {
			return false
		}
		s.length = 0
		for _, c := range value {
			s.length = 10*s.length + int64(c-'0')
		}
	case connectionField:
		s.connection = appendTokens(s.connection, value)
	case encodingField, trailerField, pragmaField:
		return false
	case other, hostField, agentField, expectField, underscoreField, upgradeField, teField, hopField:
	}
	s.fields = append(s.fields, f)
	return true
}

// closes says that the origin takes no other request on the connection.
func (s *status) closes() bool {
	return slices.Contains(s.connection, "close") || s.http10 && !slices.Contains(s.connection, "keep-alive")
}

// bodiless says that a response has no body, whatever its length says.
func bodiless(method string, code int) bool {
	return method == http.MethodHead || code == http.StatusNoContent || code == http.StatusNotModified
}

// appendTo writes the head for the client: what is not for it left out, with
// framing of ours where there is a body.
func (s *status) appendTo(out []byte, body, keep bool) []byte {
	out = append(out, "HTTP/1.1"...)
	out = append(out, s.bytes[len("HTTP/1.1"):s.line]...)
	out = append(out, "\r\n"...)
	for _, f := range s.fields {
		if f.kind < connectionField && (f.kind != lengthField || !body) && !named(f.nameOf(s.bytes), s.connection) {
			out = f.appendTo(out, s.bytes)
		}
	}
	if body {
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, s.length, 10)
		out = append(out, "\r\n"...)
	}
	if !keep {
		out = append(out, "Connection: close\r\n"...)
	}
	return append(out, "\r\n"...)
}
