package proxy

import (
	"bytes"
	"net/http"
	"strings"

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
	upgrade        []string // tokens of all Upgrade fields, lower case
	connection     []string // tokens of all Connection fields, lower case
}

// scanHead checks every byte of a head.
func scanHead(b []byte) (*head, *refusal) {
	h := &head{}
	lines := bytes.SplitAfter(b, []byte("\n"))
	for i, line := range lines {
		text, ok := bytes.CutSuffix(line, []byte("\r\n"))
		switch {
		case len(line) == 0: // behind the last one
			continue
		case !ok:
			return h, badRequest("line does not end in CRLF")
		case i == 0:
			if r := h.requestLine(string(text)); r != nil {
				return h, r
			}
		case len(text) == 0:
			return h, h.framing()
		case i > maxFields:
			return h, badRequest("too many header fields")
		default:
			if r := h.field(string(text)); r != nil {
				return h, r
			}
		}
	}
	return h, badRequest("header does not end")
}

// requestLine wants METHOD SP target SP HTTP/1.x and nothing else.
func (h *head) requestLine(line string) *refusal {
	parts := strings.Split(line, " ")
	h.method = parts[0]
	if len(parts) > 1 {
		h.target = parts[1]
	}
	if len(parts) != 3 {
		return badRequest("request line is not METHOD target HTTP/1.1")
	}
	switch {
	case parts[2] != "HTTP/1.1" && parts[2] != "HTTP/1.0":
		return badRequest("version")
	case !isMethod(h.method):
		return badRequest("method")
	case !isTarget(h.target):
		return badRequest("illegal character in the target")
	}
	h.http10 = parts[2] == "HTTP/1.0"
	return nil
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
func isTarget(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || c == '#' || c == '\\' {
			return false
		}
	}
	return s != ""
}

// field checks one header line and notes what decides about the request.
func (h *head) field(line string) *refusal {
	name, value, ok := strings.Cut(line, ":")
	if !ok || !isToken(name) { // a folded line begins with a space, which is no token
		return badRequest("header field name")
	}
	if !isFieldValue(value) {
		return badRequest("control character in a header field")
	}
	value = strings.Trim(value, " \t")
	switch key := strings.ToLower(name); key {
	case "host":
		h.hosts, h.host = h.hosts+1, value
	case "content-length":
		h.lengths++
		if !isLength(value) {
			return badRequest("te-cl: Content-Length")
		}
	case "transfer-encoding":
		h.encodings++
		if !strings.EqualFold(value, "chunked") {
			return badRequest("te-cl: Transfer-Encoding")
		}
	case "upgrade":
		h.upgrade = append(h.upgrade, tokens(value)...)
	case "connection":
		h.connection = append(h.connection, tokens(value)...)
	case "expect":
		if !strings.EqualFold(value, "100-continue") {
			return badRequest("Expect")
		}
	case "content_length", "transfer_encoding": // some servers take _ for -
		return badRequest("te-cl: underscore in a framing field")
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

func isLength(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != "" && len(s) <= 18
}

func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return s != ""
}

func isFieldValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

func tokens(value string) (list []string) {
	for t := range strings.SplitSeq(strings.ToLower(value), ",") {
		if t = strings.Trim(t, " \t"); t != "" {
			list = append(list, t)
		}
	}
	return list
}
