package proxy

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// hopByHop are fields that belong to one connection (RFC 9110, section 7.6.1).
func hopByHop() []string {
	return []string{
		"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade", "Http2-Settings",
	}
}

// clean removes what is not for the other side.
func clean(header http.Header, connection []string) {
	for _, name := range connection {
		header.Del(name)
	}
	for _, name := range hopByHop() {
		header.Del(name)
	}
}

// declineH2C takes an offer of clear text HTTP/2 out of a request and reports
// whether there was one. A server may always decline, and clients (Java's since
// 11) offer it with every request; taken, it would hide all that follow.
func (h *head) declineH2C() bool {
	n := len(h.upgrade)
	h.upgrade = slices.DeleteFunc(h.upgrade, func(t string) bool { return t == "h2c" })
	return len(h.upgrade) < n || slices.Contains(h.connection, "http2-settings")
}

// badUpgrade refuses an upgrade whose request doesn't end with its head.
func (h *head) badUpgrade() *refusal {
	if h.upgrades() && (h.lengths > 0 || h.encodings > 0) {
		return &refusal{reason: event.UpgradeRefused, status: 501, detail: "upgrade with a body"}
	}
	return nil
}

func (h *head) upgrades() bool {
	return len(h.upgrade) > 0 && slices.Contains(h.connection, "upgrade")
}

// forward issues the request anew and relays the response. It reports whether
// the connection can take another request.
func (x *exchange) forward(ev *event.Conn, h *head, t policy.Target) bool {
	if h.plain() {
		return x.askPlainly(ev, h, t)
	}
	x.patience(time.Time{})
	in, err := http.ReadRequest(x.br)
	if err != nil {
		return x.refuse(ev, badRequest(err.Error()))
	}
	if !x.usage.spend(headSize(h, in)) || !x.usage.fits(in.ContentLength) {
		return x.overBudget(ev)
	}
	body := &body{x: x, from: in.Body, done: make(chan struct{}), more: in.Header.Get("Expect") != ""}
	response, err := x.roundTrip(ev, h, t, in, x.outgoing(in, h, t, body))
	if err != nil {
		return x.unanswered(ev, body, err)
	}
	if ev.Dialled.IsValid() {
		x.dialled(ev, ev.Dialled)
	}
	return x.serve(ev, h, response, body)
}

// serve relays a response that net/http has read. body is that of the request;
// nil: it has none.
func (x *exchange) serve(ev *event.Conn, h *head, r *http.Response, body *body) bool {
	defer r.Body.Close()
	defer func() { x.settle(r.Close) }() // before Close, which would read to the end
	if r.StatusCode == http.StatusSwitchingProtocols {
		return x.upgraded(ev, h, r)
	}
	keep := x.respond(ev, h, r)
	keep = (body == nil || body.drained()) && keep
	x.end(ev)
	x.finish(ev)
	if !keep {
		x.linger()
	}
	return keep
}

// roundTrip gets a response from the origin: over a line where that will do.
// There is one connection to an origin at a time; see connFiles.
func (x *exchange) roundTrip(ev *event.Conn, h *head, t policy.Target, in, out *http.Request) (*http.Response, error) {
	if simple(h, in) {
		var b bytes.Buffer
		if err := out.Write(&b); err != nil {
			return nil, err
		}
		if err := x.ask(ev, t, b.Bytes()); err != nil {
			return nil, err
		}
		r, err := x.line.response(h.method)
		if err != nil {
			x.hangUp()
		}
		return r, err
	}
	x.hangUp()
	if x.transport == nil {
		x.transport = x.newTransport()
	}
	if t != x.last {
		x.transport.CloseIdleConnections()
		x.last = t
	}
	trace := &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		ev.Dialled = addrPort(info.Conn.RemoteAddr())
	}}
	// The transport calls GotConn before RoundTrip returns, from the same goroutine.
	return x.transport.RoundTrip(out.WithContext(httptrace.WithClientTrace(&x.term, trace)))
}

// hostFor is the Host that the origin gets: as it was judged, with its port
// where the client named it.
func (h *head) hostFor(t policy.Target) string {
	switch {
	case t.Protocol == policy.IP:
		return strings.TrimSuffix(t.String(), ":80")
	case strings.Contains(h.host, ":"):
		return t.String()
	}
	return t.Name
}

// outgoing is the request that the origin gets: same method, target, fields
// and body, with framing of ours and Host as it was judged.
func (x *exchange) outgoing(in *http.Request, h *head, t policy.Target, b *body) *http.Request {
	out := &http.Request{
		Method: h.method, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: in.Header, ContentLength: in.ContentLength, Host: h.hostFor(t),
		URL: &url.URL{Scheme: "http", Host: t.String(), Opaque: h.target},
	}
	_, rest, ok := splitURL(h.target)
	if ok {
		out.URL.Opaque = rest
	}
	if rest = out.URL.Opaque; strings.HasPrefix(rest, "//") { // an Opaque would be taken for an authority
		out.URL.Opaque = ""
		path, query, has := strings.Cut(rest, "?")
		out.URL.Path, out.URL.RawPath, out.URL.RawQuery, out.URL.ForceQuery = in.URL.Path, path, query, has
	}
	h.adapt(out.Header)
	out.Body = http.NoBody
	if in.ContentLength != 0 {
		out.Body = b
		out.Trailer = announced(in.Trailer)
		b.trailers = func() { fill(out.Trailer, in.Trailer) }
	} else {
		b.Close()
		b.ended = true
	}
	return out
}

// adapt makes the client's header fields those of the request to the origin.
func (h *head) adapt(header http.Header) {
	trailers := slices.Contains(tokens(header.Get("Te")), "trailers")
	clean(header, h.connection)
	if trailers {
		header.Set("Te", "trailers")
	}
	if h.upgrades() {
		header.Set("Connection", "Upgrade")
		header["Upgrade"] = []string{strings.Join(h.upgrade, ", ")}
	}
	if _, ok := header["User-Agent"]; !ok {
		header.Set("User-Agent", "") // the transport would add its own
	}
}

// headSize is what a request head counts in the upload budget.
func headSize(h *head, in *http.Request) int {
	n := len(h.method) + len(h.target) + len(h.host)
	for name, values := range in.Header {
		for _, v := range values {
			n += len(name) + len(v) + 4
		}
	}
	return n
}

func (x *exchange) overBudget(ev *event.Conn) bool {
	return x.refuse(ev, &refusal{reason: event.UploadBudget, status: 403, detail: ""})
}

// unanswered ends a request that got no response.
func (x *exchange) unanswered(ev *event.Conn, b *body, err error) bool {
	b.drained()
	var network *net.OpError
	switch {
	case ending(x.ended.Load()) != running:
		x.end(ev)
		x.finish(ev)
		return false
	case b.err != nil && (isEnd(b.err) || errors.As(b.err, &network)):
		ev.Detail = "client closed inside the request body"
		x.finish(ev)
		return false
	case b.err != nil:
		return x.refuse(ev, badRequest("chunk: "+b.err.Error()))
	}
	return x.failed(ev, err)
}

// failed ends a request that the origin did not answer.
func (x *exchange) failed(ev *event.Conn, err error) bool {
	if ending(x.ended.Load()) != running {
		x.end(ev)
		x.finish(ev)
		return false
	}
	x.blame(ev, err)
	if ev.Verdict == event.Blocked {
		return x.answer(ev, http.StatusForbidden, ev.Detail)
	}
	return x.answer(ev, http.StatusBadGateway, "")
}

// pathOf is the path of a target for the record, without the query, which may hold secrets.
func pathOf(target string) string {
	if _, rest, ok := splitURL(target); ok {
		target = rest
	}
	path, _, _ := strings.Cut(target, "?")
	return event.Escape(path)
}
