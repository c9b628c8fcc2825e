package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

func TestHTTPAllowed(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(nil, false)
	answer := exchange(t, l.named("allowed.example.com", o.port),
		fmt.Sprintf("GET /a%%2Fb?token=1&x=[] HTTP/1.1\r\nHost: Allowed.example.com:%d\r\nConnection: close\r\n\r\n", o.port))
	if !strings.HasPrefix(answer, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(answer, "hello from allowed.example.com:"+strconv.Itoa(o.port)) {
		t.Error(answer)
	}
	if got, want := <-o.log, fmt.Sprintf("GET allowed.example.com:%d /a%%2Fb?token=1&x=[] 0", o.port); got != want {
		t.Errorf("origin saw %q, want %q", got, want)
	}
	ev := l.want(event.Allowed, "http", "allowed.example.com", "")
	if ev.Method != "GET" || ev.Path != "/a%2Fb" || ev.Request != 1 || ev.Dialled.Addr() != public ||
		ev.RawName != fmt.Sprintf("Allowed.example.com:%d", o.port) || ev.Up == 0 || ev.Down != int64(len(answer)) {
		t.Errorf("%+v", ev)
	}
}

// What the origin gets has the client's fields and none of ours.
func TestHTTPFields(t *testing.T) {
	l := newLab(t, anyPort())
	heads := make(chan string, 1)
	o := l.plain(public, func(c net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			t.Error(err)
			return
		}
		var b bytes.Buffer
		r.Header.Write(&b)
		heads <- b.String()
		io.WriteString(c, "HTTP/1.1 200 OK\r\nServer: x\r\nKeep-Alive: timeout=1\r\nConnection: X-Hop\r\nX-Hop: 1\r\nContent-Length: 2\r\n\r\nok")
	})
	answer := exchange(t, l.named("allowed.example.com", o.port),
		"GET // HTTP/1.1\r\nHost: allowed.example.com\r\nX-Forwarded-Host: a\r\nKeep-Alive: 1\r\nX-Secret: s\r\nAccept-Encoding: gzip\r\nConnection: close, X-Secret\r\n\r\n")
	if want := "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\nServer: x\r\n\r\nok"; answer != want {
		t.Errorf("client got %q, want %q", answer, want)
	}
	if got, want := <-heads, "Accept-Encoding: gzip\r\nX-Forwarded-Host: a\r\n"; got != want {
		t.Errorf("origin got %q, want %q", got, want)
	}
	l.want(event.Allowed, "http", "allowed.example.com", "")
}

// Every request of a connection is judged alone; a refusal ends it.
func TestHTTPKeepAlive(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(nil, false)
	conn := l.named("allowed.example.com", o.port)
	br := bufio.NewReader(conn)
	for i, host := range []string{"allowed.example.com", "allowed.example.com", "other.example.com", "blocked.example.com"} {
		fmt.Fprintf(conn, "POST /%d HTTP/1.1\r\nHost: %s\r\nContent-Length: 3\r\n\r\nabc", i, host)
		r, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(r.Body)
		if host == "blocked.example.com" {
			want := fmt.Sprintf("buildcage: refused blocked.example.com:%d: not-allowed; to allow it add to buildcage.yaml: allowed_http_rules: [\"blocked.example.com:%d\"]\n", o.port, o.port)
			if r.StatusCode != 403 || string(body) != want || !r.Close {
				t.Errorf("%d %q, want %q", r.StatusCode, body, want)
			}
			ev := l.want(event.Blocked, "http", host, event.NotAllowed)
			if ev.Request != 4 || ev.Path != "/3" {
				t.Errorf("%+v", ev)
			}
			continue
		}
		if want := fmt.Sprintf("POST %s /%d 3", host, i); r.StatusCode != 200 || <-o.log != want {
			t.Errorf("%d, want %q", r.StatusCode, want)
		}
		ev := l.want(event.Allowed, "http", host, "")
		if ev.Request != i+1 || ev.Up < 50 || ev.Up > 100 || (len(ev.Flags) == 1) != (host == "other.example.com") {
			t.Errorf("%+v", ev)
		}
	}
	if n := o.conns.Load(); n != 2 {
		t.Errorf("%d connections to the origin, want one a host", n)
	}
}

func TestHTTPPipelining(t *testing.T) {
	l := newLab(t, inAudit(anyPort()))
	o := l.http(nil, false)
	var b strings.Builder
	for i := range 50 {
		host := []string{"allowed.example.com", "blocked.example.com"}[i%2]
		last := ""
		if i == 49 {
			last = "Connection: close\r\n"
		}
		fmt.Fprintf(&b, "GET /%d HTTP/1.1\r\nHost: %s\r\nRange: bytes=0-4\r\n%s\r\n", i, host, last)
	}
	answer := exchange(t, l.named("allowed.example.com", o.port), b.String())
	if n := strings.Count(answer, "HTTP/1.1 200 OK"); n != 50 {
		t.Errorf("%d answers", n)
	}
	for i := range 50 {
		verdict, name := event.Allowed, "allowed.example.com"
		if i%2 == 1 {
			verdict, name = event.Audited, "blocked.example.com"
		}
		if ev := l.want(verdict, "http", name, ""); ev.Request != i+1 || ev.Path != "/"+strconv.Itoa(i) {
			t.Errorf("%+v", ev)
		}
	}
}

// A body is streamed in both directions at once, with its trailers.
func TestHTTPStreaming(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		buf := make([]byte, 100)
		for {
			n, err := r.Body.Read(buf)
			w.Write(bytes.ToUpper(buf[:n]))
			w.(http.Flusher).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("X-Sum", "sum of "+r.Trailer.Get("X-Up")+r.Trailer.Get("Host"))
	}, false)
	conn := l.named("allowed.example.com", o.port)
	br := bufio.NewReader(conn)
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: allowed.example.com\r\nTransfer-Encoding: chunked\r\nTrailer: X-Up, Host\r\n\r\n")
	io.WriteString(conn, "3\r\nabc\r\n")
	r, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 3)
	for _, want := range []string{"ABC", "DEF"} {
		if _, err := io.ReadFull(r.Body, buf); err != nil || string(buf) != want {
			t.Fatalf("%q, %v", buf, err)
		}
		io.WriteString(conn, map[string]string{"ABC": "3\r\ndef\r\n", "DEF": "0\r\nX-Up: up\r\nHost: evil.example.net\r\n\r\n"}[want])
	}
	if rest, err := io.ReadAll(r.Body); err != nil || len(rest) > 0 || r.Trailer.Get("X-Sum") != "sum of up" {
		t.Errorf("%q, %v, trailer %v", rest, err, r.Trailer)
	}
	conn.Close()
	l.want(event.Allowed, "http", "allowed.example.com", "")
}

func TestHTTPExpectContinue(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			w.WriteHeader(417)
			return
		}
		io.Copy(w, r.Body)
	}, false)
	for path, want := range map[string]string{"/yes": "HTTP/1.1 100 Continue", "/no": "HTTP/1.1 417 Expectation Failed"} {
		conn := l.named("allowed.example.com", o.port)
		br := bufio.NewReader(conn)
		fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: allowed.example.com\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", path)
		line, err := br.ReadString('\n')
		if err != nil || strings.TrimSpace(line) != want {
			t.Fatalf("%s: %q, %v", path, line, err)
		}
		if path == "/yes" {
			br.ReadString('\n')
			io.WriteString(conn, "body")
			r, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(r.Body); string(b) != "body" {
				t.Errorf("%q", b)
			}
		}
		conn.Close()
		l.want(event.Allowed, "http", "allowed.example.com", "")
	}
}

// A tunnel after 101 is pinned: what looks like a request in it is none.
func TestHTTPUpgrade(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.plain(public, func(c net.Conn) {
		br := bufio.NewReader(c)
		r, err := http.ReadRequest(br)
		if err != nil || r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Connection") != "Upgrade" || r.Header.Get("Sec-Websocket-Key") != "k" {
			t.Errorf("%+v, %v", r, err)
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: a\r\n\r\n")
		b := make([]byte, 26)
		io.ReadFull(br, b)
		c.Write(bytes.ToUpper(b))
	})
	conn := l.named("allowed.example.com", o.port)
	answer := exchange(t, conn,
		"GET /chat HTTP/1.1\r\nHost: allowed.example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\nSec-WebSocket-Key: k\r\n\r\nget http://blocked/ http/1")
	conn.Close()
	if !strings.HasPrefix(answer, "HTTP/1.1 101 ") || !strings.HasSuffix(answer, "\r\n\r\nGET HTTP://BLOCKED/ HTTP/1") {
		t.Errorf("%q", answer)
	}
	ev := l.want(event.Allowed, "http", "allowed.example.com", "")
	if len(ev.Flags) != 1 || ev.Flags[0] != "websocket" || ev.Down != int64(len(answer)) {
		t.Errorf("%+v", ev)
	}
}

// An upgrade that the origin does not take leaves an ordinary connection.
func TestHTTPUpgradeDeclined(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(nil, false)
	answer := exchange(t, l.named("allowed.example.com", o.port),
		"GET / HTTP/1.1\r\nHost: allowed.example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"+
			"GET / HTTP/1.1\r\nHost: blocked.example.com\r\n\r\n")
	if strings.Count(answer, "HTTP/1.1 200 OK") != 1 || strings.Count(answer, "HTTP/1.1 403 Forbidden") != 1 {
		t.Error(answer)
	}
	l.want(event.Allowed, "http", "allowed.example.com", "")
	l.want(event.Blocked, "http", "blocked.example.com", event.NotAllowed)
}

// The offer of clear text HTTP/2 does not reach the origin, however it is
// written; the request itself does, and the next one is judged.
func TestHTTPDeclinesH2C(t *testing.T) {
	l := newLab(t, anyPort())
	got := make(chan string, 8)
	o := l.http(func(_ http.ResponseWriter, r *http.Request) { got <- fmt.Sprint(r.Header) }, false)
	const host = "Host: allowed.example.com\r\n"
	for _, fields := range []string{
		"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
		"upgrade: foo\r\nUpgrade: bar, H2C\r\nConnection: Upgrade\r\nConnection: http2-settings\r\nHTTP2-Settings: AAMAAABk\r\n",
		"Upgrade: h2c\r\n", "HTTP2-Settings: AAMAAABk\r\nConnection: HTTP2-Settings\r\n",
		"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 0\r\n",
	} {
		conn := l.named("allowed.example.com", o.port)
		answer := exchange(t, conn, "GET / HTTP/1.1\r\n"+host+fields+"\r\nGET / HTTP/1.1\r\nHost: blocked.example.com\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 200 ") {
			t.Errorf("%q: answer %q", fields, answer)
		}
		if ev := l.want(event.Allowed, "http", "allowed.example.com", ""); !slices.Contains(ev.Flags, "h2c") {
			t.Errorf("%q: flags %v", fields, ev.Flags)
		}
		l.want(event.Blocked, "http", "blocked.example.com", event.NotAllowed)
		if r := <-got; strings.Contains(strings.ToLower(r), "h2c") || strings.Contains(strings.ToLower(r), "http2-settings") {
			t.Errorf("%q: the origin got %q", fields, r)
		}
	}
}

func TestHTTPOldClient(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush() // unknown length
		io.WriteString(w, "streamed")
	}, false)
	answer := exchange(t, l.named("allowed.example.com", o.port), "GET / HTTP/1.0\r\nHost: allowed.example.com\r\n\r\n")
	if !strings.HasSuffix(answer, "\r\n\r\nstreamed") || strings.Contains(answer, "chunked") {
		t.Error(answer)
	}
	l.want(event.Allowed, "http", "allowed.example.com", "")
}

func TestHTTPHead(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.http(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "12345") }, false)
	answer := exchange(t, l.named("allowed.example.com", o.port),
		"HEAD / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\nHEAD / HTTP/1.1\r\nHost: allowed.example.com\r\nConnection: close\r\n\r\n")
	if strings.Count(answer, "Content-Length: 12345\r\n") != 2 || !strings.HasSuffix(answer, "\r\n\r\n") {
		t.Error(answer)
	}
	l.want(event.Allowed, "http", "allowed.example.com", "")
	l.want(event.Allowed, "http", "allowed.example.com", "")
}

// A response that breaks off must not look whole to the client.
func TestHTTPBrokenResponse(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.plain(public, func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
	})
	conn := l.named("allowed.example.com", o.port)
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
	if _, err := io.ReadAll(conn); err == nil {
		t.Error("looks like a proper end")
	}
	l.want(event.Failed, "http", "allowed.example.com", event.UpstreamError)
}

func TestHTTPUnreachable(t *testing.T) {
	l := newLab(t, anyPort())
	closed, listener := l.listen(public)
	listener.Close()
	for _, c := range []struct {
		answer  []netip.Addr
		verdict event.Verdict
		reason  event.Reason
		status  string
	}{
		{[]netip.Addr{public}, event.Failed, event.UpstreamError, "502"},
		{nil, event.Failed, event.DNSFailed, "502"},
		{[]netip.Addr{netip.MustParseAddr("127.0.0.1")}, event.Blocked, event.InternalAddress, "403"},
		{[]netip.Addr{netip.MustParseAddr("192.0.2.99")}, event.Blocked, event.SelfAddress, "403"},
	} {
		l.mu.Lock()
		l.answers["allowed.example.com"] = c.answer
		l.mu.Unlock()
		answer := exchange(t, l.named("allowed.example.com", closed.port), "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
		if !strings.HasPrefix(answer, "HTTP/1.1 "+c.status) || !strings.Contains(answer, string(c.reason)) {
			t.Errorf("%s: %q", c.reason, answer)
		}
		ev := l.next()
		if ev.Verdict != c.verdict || ev.Reason != c.reason {
			t.Errorf("%+v, want %s", ev, c.reason)
		}
	}
}

// To a raw address: a listed name is re-routed, the address itself needs an IP rule or audit.
func TestHTTPRaw(t *testing.T) {
	for _, mode := range []policy.Mode{policy.Restrict, policy.Audit} {
		spec := anyPort()
		spec.Mode = mode
		l := newLab(t, spec)
		o := l.http(nil, false)
		request := func(to netip.Addr, host string) string {
			return exchange(t, l.dial(to, o.port), "GET / HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n\r\n")
		}
		request(netip.MustParseAddr("203.0.113.7"), "allowed.example.com")
		if ev := l.want(event.Allowed, "http", "allowed.example.com", ""); len(ev.Flags) != 1 || ev.Flags[0] != "rerouted" {
			t.Errorf("%+v", ev)
		}
		answer := request(public, fmt.Sprintf("127.0.0.2:%d", o.port))
		request(public, "203.0.113.8")
		if mode == policy.Audit {
			l.want(event.Audited, "ip", "", "")
			l.want(event.Blocked, "ip", "", event.AuthorityMismatch)
			continue
		}
		if !strings.Contains(answer, `allowed_ip_rules: ["127.0.0.2:`) {
			t.Error(answer)
		}
		l.want(event.Blocked, "ip", "", event.IPNotAllowed)
		l.want(event.Blocked, "ip", "", event.AuthorityMismatch)
	}
}
