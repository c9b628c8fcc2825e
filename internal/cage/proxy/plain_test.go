package proxy

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/policy"
)

// A request or a response that is passed on as it was written means what it
// would mean if net/http had read and written it. These tests do both, and read
// the results with net/http.

func targets() []policy.Target {
	return []policy.Target{
		{Protocol: policy.HTTP, Name: "allowed.example.com", Port: 80},
		{Protocol: policy.HTTP, Name: "allowed.example.com", Port: 8080},
		{Protocol: policy.IP, Addr: netip.MustParseAddr("192.0.2.1"), Port: 80},
	}
}

// received is what the other side makes of a request.
func received(t *testing.T, text []byte) *http.Request {
	t.Helper()
	br := bufio.NewReader(bytes.NewReader(text))
	r, err := http.ReadRequest(br)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	if rest, _ := br.Peek(1); len(rest) > 0 || r.ContentLength != 0 {
		t.Fatalf("%q is not one request without a body", text)
	}
	return r
}

// sameRequest wants b, if it is plain, to reach the origin as net/http would
// have sent it. It reports whether it is plain.
func sameRequest(t *testing.T, b []byte) bool {
	t.Helper()
	h := new(head)
	if h.scan(b, "") != nil || !h.plain() {
		return false
	}
	for _, to := range targets() {
		in, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", b, err)
		}
		if !simple(h, in) || in.Close != h.closes() {
			t.Errorf("%q: simple %t, closes %t, want %t", b, simple(h, in), h.closes(), in.Close)
		}
		if got, want := h.weight(), headSize(h, in); got != want {
			t.Errorf("%q: counts %d bytes, want %d", b, got, want)
		}
		var slow bytes.Buffer
		out := (&exchange{}).outgoing(in, h, to, &body{done: make(chan struct{})})
		if err := out.Write(&slow); err != nil {
			t.Fatalf("net/http does not send %q: %v", b, err)
		}
		got, want := received(t, h.appendTo(nil, h.hostFor(to))), received(t, slow.Bytes())
		if diff := cmp.Diff([]any{want.Method, want.RequestURI, want.Host, want.Proto, want.Header}, []any{got.Method, got.RequestURI, got.Host, got.Proto, got.Header}); diff != "" {
			t.Errorf("%q: origin gets something else:\n%s", b, diff)
		}
	}
	return true
}

func requests() map[string]bool {
	const host = "Host: allowed.example.com\r\n"
	get := func(fields string) string { return "GET /a HTTP/1.1\r\n" + host + fields + "\r\n" }
	target := func(t string) string { return "GET " + t + " HTTP/1.1\r\n" + host + "\r\n" }
	return map[string]bool{
		get(""): true, "HEAD /a?b=c HTTP/1.1\r\nhost:\tallowed.example.com:8080 \r\n\r\n": true,
		get("User-Agent: curl/8\r\nAccept: */*\r\nX-Empty:\r\nCOOKIE: a=b\r\nCookie: c=d\r\nAuthorization: Basic x\r\nRange: bytes=0-4\r\n"): true,
		get(host): false, get("User-Agent:\r\n"): true, get("User-Agent: a\r\nuser-agent: b\r\n"): false,
		get("Connection: close\r\n"): true, get("Connection: Keep-Alive\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n"): true,
		get("X-Hop: 1\r\nx-hop: 2\r\nX-Stays: 3\r\nconnection: x-HOP, user-agent\r\nUser-Agent: x\r\nConnection: host\r\n"): true,
		get("Proxy-Authorization: Basic secret\r\nProxy-Authenticate: x\r\nHTTP2-Settings: AAMAAABk\r\n"):                   true,
		get("Upgrade: websocket\r\n"): true, get("Upgrade: websocket\r\nConnection: upgrade\r\n"): false,
		get("TE: trailers\r\n"): false, get("Trailer: X\r\n"): false, get("Pragma: no-cache\r\n"): false, get("Expect: 100-continue\r\n"): false,
		get("Content-Length: 0\r\n"): false, get("Content-Length: 5\r\n"): false, get("Transfer-Encoding: chunked\r\n"): false,
		get("X-Bytes: \xe2\x80\x8b\tx\r\nX: \"quoted\"\r\n!#$%&'*+-.^_`|~: 1\r\n"): true,
		"POST /a HTTP/1.1\r\n" + host + "\r\n":                                     false, "GET /a HTTP/1.0\r\n" + host + "\r\n": false, "OPTIONS * HTTP/1.1\r\n" + host + "\r\n": false,
		target("/"): true, target("/%41%2f?%zz"): true, target("/a[b]{c}|;,'\"<>^`:@!$&()*+="): true, target("/?"): true, target("/a?b?c=//d"): true,
		target("/a//b"): true, target("//a"): false, target("/%zz"): false, target("/%4"): false, target("/%"): false, target("http://allowed.example.com/"): false,
	}
}

func TestPlainRequests(t *testing.T) {
	for text, want := range requests() {
		if plain := sameRequest(t, []byte(text)); plain != want {
			t.Errorf("%q: plain %t, want %t", text, plain, want)
		}
	}
}

func FuzzPlainRequest(f *testing.F) {
	for text := range requests() {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
			sameRequest(t, b[:i+4])
		}
	})
}

// sameResponse wants b, if it is plain, to reach the client as net/http would
// have sent it on. It reports whether it is plain.
func sameResponse(t *testing.T, method string, b []byte) bool {
	t.Helper()
	for _, fields := range []string{"", "Connection: close\r\n"} {
		h, s := new(head), new(status)
		if h.scan([]byte(method+" / HTTP/1.1\r\nHost: x\r\n"+fields+"\r\n"), "") != nil {
			t.Fatal("the request")
		}
		if fits, more := s.scan(b); !fits || more || s.length < 0 && !bodiless(method, s.code) {
			return false
		}
		br := bufio.NewReader(bytes.NewReader(b))
		r, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("net/http refuses %q: %v", b, err)
		}
		body := !bodiless(method, r.StatusCode)
		if r.StatusCode != s.code || r.Close != s.closes() || body && r.ContentLength != s.length {
			t.Errorf("%q: %+v, net/http has %+v", b, s, r)
		}
		if behind, _ := br.Peek(br.Buffered()); !bytes.Equal(behind, b[len(s.bytes):]) {
			t.Errorf("%q: the body begins at %q, want %q", b, b[len(s.bytes):], behind)
		}
		if len(s.connection) > 1 && slices.Contains(s.connection, "close") {
			continue // net/http forgets what else Connection names
		}
		keep, chunked := h.reframe(r)
		var slow bytes.Buffer
		if err := encodeHead(&slow, r); err != nil || chunked || keep != (fields == "") {
			t.Fatalf("%q: %v, chunked %t, keep %t", b, err, chunked, keep)
		}
		fast := s.appendTo(nil, body, keep)
		got, want := read(t, method, fast), read(t, method, slow.Bytes())
		if diff := cmp.Diff([]any{want.Status, want.Proto, want.Close, want.ContentLength, want.Header}, []any{got.Status, got.Proto, got.Close, got.ContentLength, got.Header}); diff != "" {
			t.Errorf("%q: client gets something else:\n%s", b, diff)
		}
	}
	return true
}

// read is what a client makes of a response's head.
func read(t *testing.T, method string, text []byte) *http.Response {
	t.Helper()
	br := bufio.NewReader(bytes.NewReader(text))
	r, err := http.ReadResponse(br, &http.Request{Method: method})
	if rest, _ := br.Peek(1); err != nil || len(rest) > 0 {
		t.Fatalf("%q: %v", text, err)
	}
	return r
}

func responses() map[string]bool {
	ok := func(fields string) string { return "HTTP/1.1 200 OK\r\n" + fields + "\r\n" }
	const length = "Content-Length: 5\r\n"
	return map[string]bool{
		ok(length): true, ok(length) + "hello": true, ok("content-length:005 \r\n") + "hello, and more": true, ok("Content-Length: 0\r\n"): true,
		"HTTP/1.0 200 OK\r\n" + length + "\r\n": true, "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n" + length + "\r\n": true,
		ok(length + "Connection: close\r\n"): true, ok(length + "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"): true,
		ok(length + "Connection: X-Hop\r\nx-hop: 1\r\nX-Stays: 1\r\n"): true, ok(length + "Connection: content-length\r\n"): true,
		ok(length + "Connection: close, X-Hop\r\nX-Hop: 1\r\n"): true, ok(length + "Upgrade: h2c\r\nConnection: Upgrade\r\n"): true,
		ok(length + "Set-Cookie: a\r\nset-cookie: b\r\nServer:\r\nX: \xe2\x80\x8b\r\nHost: x\r\nUser-Agent: x\r\nExpect: x\r\nProxy-Authenticate: x\r\nTE: x\r\n"): true,
		"HTTP/1.1 404 Not  Found \r\n" + length + "\r\n": true, "HTTP/1.1 200 \r\n" + length + "\r\n": true, "HTTP/1.1 599 x\r\n" + length + "\r\n": true,
		"HTTP/1.1 304 Not Modified\r\n\r\n": true, "HTTP/1.1 204 No Content\r\n" + length + "\r\n": true, "HTTP/1.1 304 Not Modified\r\nETag: x\r\n" + length + "\r\n": true,
		"HTTP/1.1 200\r\n" + length + "\r\n": false, "HTTP/1.1  200 OK\r\n" + length + "\r\n": false, "HTTP/1.2 200 OK\r\n" + length + "\r\n": false,
		"HTTP/1.1 100 Continue\r\n\r\n": false, "HTTP/1.1 101 Switching Protocols\r\n" + length + "\r\n": false, "HTTP/1.1 999 x\r\n" + length + "\r\n": false,
		"HTTP/1.1 20 OK\r\n" + length + "\r\n": false, "HTTP/1.1 +20 OK\r\n" + length + "\r\n": false, "HTTP/2.0 200 OK\r\n" + length + "\r\n": false, "hello\r\n\r\n": false,
		ok(""): false, ok(length + length): false, ok(length + "Content-Length: 6\r\n"): false, ok("Content-Length: 5, 5\r\n"): false, ok("Content-Length: +5\r\n"): false,
		ok("Content-Length: 9999999999999999999\r\n"): false, ok("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n": false, ok(length + "Transfer-Encoding: chunked\r\n"): false,
		ok(length + "Trailer: X\r\n"): false, ok(length + "Pragma: no-cache\r\n"): false, ok(length + " folded\r\n"): false, ok(length + "X : 1\r\n"): false,
		ok(length + "no colon\r\n"): false, ok(length + "X: a\x00b\r\n"): false, ok(length + "X: a\rb\r\n"): false, ok("Content-Length: 5\n"): false, ok(length + "X: yz\n"): false, ok(length + "X\xc1: 1\r\n"): false,
		"HTTP/1.1 200 OK\nContent-Length: 5\n\n": false, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\n": false, "HTTP/1.1 200 OK\r\n" + length: false, "": false,
		ok(length + strings.Repeat("X: y\r\n", 300)): false,
	}
}

func TestPlainResponses(t *testing.T) {
	for text, want := range responses() {
		if plain := sameResponse(t, "GET", []byte(text)); plain != want {
			t.Errorf("%q: plain %t, want %t", text, plain, want)
		}
		sameResponse(t, "HEAD", []byte(text))
	}
}

func FuzzPlainResponse(f *testing.F) {
	for text := range responses() {
		f.Add([]byte(text), false)
	}
	f.Fuzz(func(t *testing.T, b []byte, head bool) {
		sameResponse(t, map[bool]string{false: "GET", true: "HEAD"}[head], b)
	})
}
