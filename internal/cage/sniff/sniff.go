// Package sniff reads the first bytes that a client sends: it tells TLS and
// HTTP/1.x from everything else and finds the server name in a TLS ClientHello.
//
// It is strict, because a hello that two parsers read differently is how a name
// gets smuggled: whatever is not exactly one legal name in one well-formed
// hello is refused, with the reason. It is pure, keeps no bytes of its own while
// the hello is in one TLS record, and its memory is bounded by MaxHello.
package sniff

import "bytes"

// Kind is what the first bytes of a connection look like.
type Kind uint8

const (
	NeedMore Kind = iota
	TLS           // a TLS record with a handshake message; may never be judged as anything else
	HTTP          // an HTTP/1.x request line, well-formed or not
	Unknown
)

const (
	// recordHandshake is the first byte of a TLS connection.
	recordHandshake = 0x16
	// maxLine is how long a first line may be while its method is not a known one.
	maxLine = 4096
	// maxMethod is the longest method that is looked for.
	maxMethod = 32
)

// h2Preface begins HTTP/2 with prior knowledge, which is never HTTP here.
const h2Preface = "PRI * HTTP/2"

// Classify says what prefix begins. One byte is enough for TLS. A known method
// and a space are HTTP; any other first line is HTTP when it names the
// protocol, so that its faults are reported as those of a request. One empty
// line before a request is tolerated.
func Classify(prefix []byte) Kind {
	if len(prefix) == 0 {
		return NeedMore
	}
	if prefix[0] == recordHandshake {
		return TLS
	}
	line, more := skipEmptyLine(prefix)
	if more {
		return NeedMore
	}
	method := len(line)
	for i, c := range line {
		if c == ' ' || c == '\t' {
			method = i
			break
		}
		if !isMethodByte(c) || i == maxMethod {
			return Unknown
		}
	}
	switch {
	case method == 0:
		return Unknown
	case method == len(line):
		return NeedMore
	case hasPrefixOf(line, h2Preface):
		return prefaceKind(line)
	case line[method] == ' ' && isKnownMethod(line[:method]):
		return HTTP
	}
	return lineKind(line)
}

// skipEmptyLine drops one CRLF or LF; more is true while that can't be said.
func skipEmptyLine(b []byte) (rest []byte, more bool) {
	switch {
	case b[0] == '\n':
		b = b[1:]
	case b[0] == '\r' && len(b) > 1 && b[1] == '\n':
		b = b[2:]
	case b[0] == '\r' && len(b) == 1:
		return nil, true
	}
	return b, len(b) == 0
}

// lineKind judges a line with an unknown method by its end.
func lineKind(line []byte) Kind {
	line, _, complete := bytes.Cut(line, []byte{'\n'})
	if !complete {
		if len(line) > maxLine {
			return Unknown
		}
		return NeedMore
	}
	i := bytes.LastIndexAny(line, " \t")
	if i < 0 || len(line)-i < len(" HTTP/") || !bytes.EqualFold(line[i+1:i+6], []byte("http/")) {
		return Unknown
	}
	return HTTP
}

func prefaceKind(line []byte) Kind {
	if len(line) < len(h2Preface) {
		return NeedMore
	}
	return Unknown
}

// hasPrefixOf reports whether line and want agree as far as both go.
func hasPrefixOf(line []byte, want string) bool {
	n := min(len(line), len(want))
	return string(line[:n]) == want[:n]
}

func isMethodByte(c byte) bool {
	return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' || c == '-' || c == '_'
}

func isKnownMethod(m []byte) bool {
	switch string(m) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT",
		"PROPFIND", "PROPPATCH", "MKCOL", "COPY", "MOVE", "LOCK", "UNLOCK", "REPORT", "SEARCH", "PURGE":
		return true
	}
	return false
}
