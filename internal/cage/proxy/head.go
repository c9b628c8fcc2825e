package proxy

import (
	"bytes"
	"net/http"
	"slices"

	"github.com/buildcage/buildcage/internal/event"
)

const (
	// maxHead bounds request line and header together.
	maxHead = 64 << 10
	// maxFields is far above what clients send and below what parsers choke on.
	maxFields = 256
	// readSize is the reader of a connection until a head needs more.
	readSize = 4 << 10
)

// refusal is why a request is not served, and the status that says so.
type refusal struct {
	reason event.Reason
	status int
	detail string // for the record
	hint   string // for the client, instead of detail
}

func badRequest(detail string) *refusal {
	return &refusal{reason: event.BadRequest, status: 400, detail: detail}
}

// head is a request head as it was sent. It exists because net/http forgives
// what two parsers may read differently; everything that is ambiguous is
// refused here, before net/http sees it.
type head struct {
	method, target string
	http10         bool
	hosts          int
	host           string // value of the last Host field
	lengths        int
	encodings      int
	agents         int
	rare           int      // fields that only net/http treats as they want to be
	upgrade        []string // tokens of all Upgrade fields, lower case
	connection     []string // tokens of all Connection fields, lower case

	known  string // value of Host in the head before, which most likely is the same
	bytes  []byte // that were scanned; the reader's
	fields []field
}

// scan checks every byte of a head. What h held before is reused. known is the
// Host of an earlier request.
func (h *head) scan(b []byte, known string) *refusal {
	*h = head{known: known, upgrade: h.upgrade[:0], connection: h.connection[:0], fields: h.fields[:0], bytes: b}
	for i, start := 0, 0; start < len(b); i++ {
		end := start + bytes.IndexByte(b[start:], '\n')
		if end < start+1 || b[end-1] != '\r' {
			return badRequest("line does not end in CRLF")
		}
		switch {
		case i == 0:
			if r := h.requestLine(b[:end-1]); r != nil {
				return r
			}
		case end == start+1:
			return h.framing()
		case i > maxFields:
			return badRequest("too many header fields")
		default:
			if r := h.field(start, end-1); r != nil {
				return r
			}
		}
		start = end + 1
	}
	return badRequest("header does not end")
}

// requestLine wants METHOD SP target SP HTTP/1.x and nothing else.
func (h *head) requestLine(line []byte) *refusal {
	method, rest, two := bytes.Cut(line, []byte(" "))
	target, version, three := bytes.Cut(rest, []byte(" "))
	h.method, h.target = methodOf(method), string(target)
	h10, h11 := string(version) == "HTTP/1.0", string(version) == "HTTP/1.1"
	switch {
	case !two || !three || bytes.IndexByte(version, ' ') >= 0:
		return badRequest("request line is not METHOD target HTTP/1.1")
	case !h10 && !h11:
		return badRequest("version")
	case !isMethod(h.method):
		return badRequest("method")
	case !isTarget(target):
		return badRequest("illegal character in the target")
	}
	h.http10 = h10
	return nil
}

func methodOf(b []byte) string {
	switch string(b) {
	case http.MethodGet:
		return http.MethodGet
	case http.MethodHead:
		return http.MethodHead
	}
	return string(b)
}

// isMethod takes no TRACE, which echoes what a request carries and which nobody needs.
func isMethod(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return s != "" && s != http.MethodTrace && len(s) <= 32
}

// isTarget allows printable ASCII without the fragment mark.
func isTarget(s []byte) bool {
	for _, c := range s {
		if c <= ' ' || c > '~' || c == '#' || c == '\\' {
			return false
		}
	}
	return len(s) > 0
}

// field checks one header line and notes what decides about the request.
func (h *head) field(from, to int) *refusal {
	f, fault := splitField(h.bytes, from, to)
	if fault != "" {
		return badRequest(fault)
	}
	h.fields = append(h.fields, f)
	value := f.valueOf(h.bytes)
	switch f.kind {
	case hostField:
		h.hosts++
		if h.host = h.known; string(value) != h.known {
			h.host = string(value)
		}
	case lengthField:
		h.lengths++
		if !isLength(value) {
			return badRequest("te-cl: Content-Length")
		}
	case encodingField:
		h.encodings++
		if !same(value, "chunked") {
			return badRequest("te-cl: Transfer-Encoding")
		}
	case upgradeField:
		h.upgrade = appendTokens(h.upgrade, value)
	case connectionField:
		h.connection = appendTokens(h.connection, value)
	case expectField:
		h.rare++
		if !same(value, "100-continue") {
			return badRequest("Expect")
		}
	case underscoreField:
		return badRequest("te-cl: underscore in a framing field")
	case agentField:
		h.agents++
	case teField, trailerField, pragmaField:
		h.rare++
	case other, hopField:
	}
	return nil
}

// framing wants one statement about the length of the body, or none.
func (h *head) framing() *refusal {
	switch {
	case h.lengths > 1 || h.encodings > 1 || h.lengths > 0 && h.encodings > 0:
		return badRequest("te-cl: several framing fields")
	case h.encodings > 0 && h.http10:
		return badRequest("te-cl: Transfer-Encoding in HTTP/1.0")
	}
	return nil
}

// closes says that the client wants no other request on the connection.
func (h *head) closes() bool {
	return slices.Contains(h.connection, "close") || h.http10 && !slices.Contains(h.connection, "keep-alive")
}
