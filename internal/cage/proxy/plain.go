package proxy

import (
	"net/http"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// plain says that a request asks for something and no more, in the way that
// nearly all do. It goes to the origin as it was written, but for what is not
// for the origin. Any other is net/http's to read and to write.
func (h *head) plain() bool {
	return (h.method == http.MethodGet || h.method == http.MethodHead) && !h.http10 &&
		h.hosts == 1 && h.lengths+h.encodings+h.rare == 0 && h.agents <= 1 && !h.upgrades() && plainPath(h.target)
}

// plainPath wants a path whose escapes are escapes.
func plainPath(target string) bool {
	if target[0] != '/' || strings.HasPrefix(target, "//") {
		return false
	}
	path, _, _ := strings.Cut(target, "?")
	for {
		i := strings.IndexByte(path, '%')
		if i < 0 {
			return true
		}
		if len(path) < i+3 || !isHex(path[i+1]) || !isHex(path[i+2]) {
			return false
		}
		path = path[i+3:]
	}
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// weight is what a head counts in the upload budget.
func (h *head) weight() int {
	n := len(h.method) + len(h.target) + len(h.host)
	for _, f := range h.fields {
		if f.kind != hostField {
			n += len(f.nameOf(h.bytes)) + len(f.valueOf(h.bytes)) + 4
		}
	}
	return n
}

// appendTo writes a plain request for the origin.
func (h *head) appendTo(out []byte, host string) []byte {
	out = append(out, h.method...)
	out = append(out, ' ')
	out = append(out, h.target...)
	out = append(out, " HTTP/1.1\r\nHost: "...)
	out = append(out, host...)
	out = append(out, "\r\n"...)
	for _, f := range h.fields {
		switch {
		case f.kind != other && f.kind != agentField,
			f.kind == agentField && f.value == f.end,
			named(f.nameOf(h.bytes), h.connection):
		default:
			out = f.appendTo(out, h.bytes)
		}
	}
	return append(out, "\r\n"...)
}

// askPlainly serves a plain request. It reports whether the connection can take
// another one.
func (x *exchange) askPlainly(ev *event.Conn, h *head, t policy.Target) bool {
	// The bytes stay where they are until the next reading.
	if _, err := x.br.Discard(len(h.bytes)); err != nil {
		return x.aborted(ev)
	}
	if !x.usage.spend(h.weight()) {
		return x.overBudget(ev)
	}
	x.out = h.appendTo(x.out[:0], h.hostFor(t))
	if err := x.ask(ev, t, x.out); err != nil {
		return x.failed(ev, err)
	}
	if !x.line.public {
		x.dialled(ev, ev.Dialled)
	}
	if !x.line.read(&x.status, h.method) {
		r, err := x.line.response(h.method)
		if err != nil {
			x.hangUp()
			return x.failed(ev, err)
		}
		return x.serve(ev, h, r, nil)
	}
	keep := x.pass(ev, h, &x.status)
	x.end(ev)
	x.finish(ev)
	x.settle(x.status.closes())
	if !keep {
		x.linger()
	}
	return keep
}

// pass relays a response that needs no interpretation.
func (x *exchange) pass(ev *event.Conn, h *head, s *status) bool {
	x.whole = false
	keep, body := !h.closes(), !bodiless(h.method, s.code)
	x.out = s.appendTo(x.out[:0], body, keep)
	br := x.line.br
	if _, err := br.Discard(len(s.bytes)); err != nil {
		return false
	}
	rest := &x.span
	*rest = span{line: x.line}
	if body {
		rest.left = s.length
	}
	// What came with the head goes with it.
	first, _ := br.Peek(int(min(rest.left, int64(br.Buffered()))))
	x.out = append(x.out, first...)
	rest.left -= int64(len(first))
	_, _ = br.Discard(len(first)) // it is there
	if _, err := (reply{x}).Write(x.out); err != nil {
		ev.Detail = "client closed"
		return false
	}
	x.whole = rest.left == 0 || x.copyBody(ev, rest, false)
	return x.whole && keep
}
