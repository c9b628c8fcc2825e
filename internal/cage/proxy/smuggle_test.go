package proxy_test

import (
	"io"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// corpus is requests that must not reach any origin, whatever the mode. PORT
// is the port of the connection. Where a body is possible it holds a whole second request.
func corpus() map[event.Reason][]string {
	const inner = "GET /smuggled HTTP/1.1\r\nHost: blocked.example.com\r\n\r\n"
	const host = "Host: allowed.example.com\r\n"
	post := func(fields string) string {
		return "POST / HTTP/1.1\r\n" + host + fields + "\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + inner
	}
	get := func(fields string) string { return "GET / HTTP/1.1\r\n" + fields + "\r\n" + inner }
	target := func(t string) string { return "GET " + t + " HTTP/1.1\r\n" + host + "\r\n" }
	return map[event.Reason][]string{
		event.MissingHost: {
			"GET / HTTP/1.0\r\n\r\n", get(""), get("Host:\r\n"), get("Host: \t\r\n"), "GET http://allowed.example.com:PORT/ HTTP/1.1\r\n\r\n",
		},
		event.InvalidHost: {
			get(host + host), get(host + "Host: blocked.example.com\r\n"), get(host + "hOsT: allowed.example.com\r\n"),
			get("Host: allowed.example.com, blocked.example.com\r\n"),
			get("Host: allowed.example.com@blocked.example.com\r\n"), get("Host: allowed.example.com:80@blocked.example.com\r\n"),
			get("Host: allowed%2eexample.com\r\n"), get("Host: allowed.example.com\\.blocked\r\n"), get("Host: allowed.example.com;x\r\n"),
			get("Host: allowed.example.com/x\r\n"), get("Host: all\xd0\xbewed.example.com\r\n"), get("Host: allowed.example.com\xe3\x80\x82\r\n"),
			get("Host: [allowed.example.com]\r\n"), get("Host: [::1%25.allowed.example.com]\r\n"), get("Host: [::1\r\n"), get("Host: ::1\r\n"),
			get("Host: 2130706433\r\n"), get("Host: 0x7f000001\r\n"), get("Host: 0177.0.0.1\r\n"), get("Host: 127.1\r\n"),
			get("Host: allowed.example.com..\r\n"), get("Host: .allowed.example.com\r\n"), get("Host: allowed.example.com:80:80\r\n"),
			target("http://allowed.example.com@blocked.example.com/"), target("http://x@allowed.example.com:PORT/"),
		},
		event.InternalAddress: {get("Host: 169.254.169.254\r\n"), get("Host: [::1]\r\n"), get("Host: [::ffff:127.0.0.1]\r\n"), get("Host: 127.0.0.1:PORT\r\n")},
		event.AuthorityMismatch: {
			get("Host: allowed.example.com:8081\r\n"), get("Host: allowed.example.com:0\r\n"), get("Host: allowed.example.com:99999\r\n"),
			get("Host: allowed.example.com:0PORT\r\n"), get("Host: allowed.example.com:\r\n"), get("Host: allowed.example.com:+PORT\r\n"),
			target("http://blocked.example.com:PORT/"), target("http://allowed.example.com/"), target("HTTP://other.example.com:PORT"),
			get("Host: 203.0.113.7\r\n"),
		},
		event.BadRequest: {
			// Framing.
			post("Content-Length: 3\r\nTransfer-Encoding: chunked"), post("Transfer-Encoding: chunked\r\nContent-Length: 3"),
			post("Content-Length: 3\r\nContent-Length: 4"), post("Content-Length: 3\r\nContent-Length: 3"), post("Content-Length: 3, 3"),
			post("Content-Length: +5"), post("Content-Length: -1"), post("Content-Length: 0x5"), post("Content-Length:"), post("Content-Length: 5 5"),
			post("Content-Length: 99999999999999999999"), post("Transfer-Encoding: xchunked"), post("Transfer-Encoding:\tidentity"),
			post("Transfer-Encoding: gzip, chunked"), post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
			post("Transfer-Encoding: \x0bchunked"), post("Transfer_Encoding: chunked"), post("Content_Length: 5"),
			"POST / HTTP/1.0\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
			// Header syntax.
			get(host + " folded: x\r\n"), get("Host:\r\n allowed.example.com\r\n"), get("Host : allowed.example.com\r\n"), get(": x\r\n" + host),
			get(host + "no colon\r\n"), "GET / HTTP/1.1\r\n Host: allowed.example.com\r\n\r\n", get("X: a\x00b\r\n" + host), get("X: a\rb\r\n" + host),
			get("X: a\x0bb\r\n" + host), get("X: a\x7fb\r\n" + host), get("Host: allowed.example.com\x00\r\n"), get("X: a\n" + host), "GET / HTTP/1.1\nHost: allowed.example.com\n\n",
			get(host + "Expect: 200-maybe\r\n"), get(host + "X(y): 1\r\n"), get(host + "X\xc1: 1\r\n"), get(host + strings.Repeat("X: y\r\n", 5000)),
			get("Host: " + strings.Repeat("a", 70000) + "\r\n"), target("/" + strings.Repeat("a", 70000)),
			// Request line.
			"GET /\r\n", "GET / \r\n", "GET / HTTP/1.2\r\n" + host + "\r\n", "GET / HTTP/2.0\r\n" + host + "\r\n", "GET / HTTP/9.9\r\n" + host + "\r\n",
			"GET / http/1.1\r\n" + host + "\r\n", "get / HTTP/1.1\r\n" + host + "\r\n", "GET  / HTTP/1.1\r\n" + host + "\r\n", "GET\t/ HTTP/1.1\r\n" + host + "\r\n",
			"GET / HTTP/1.1 \r\n" + host + "\r\n", "GET / x HTTP/1.1\r\n" + host + "\r\n", "TRACE / HTTP/1.1\r\n" + host + "\r\n", target("*"), target("/a\x00b"), target("/a\x7f"), target("/#frag"), target("/\xff"),
			target("https://allowed.example.com:PORT/"), target("ftp://allowed.example.com/"), target("http:///x"), target("allowed.example.com"),
			target("http://allowed.example.com:PORT/#@blocked.example.com/"), target("/%zz"), target("\\x"),
		},
		event.ConnectMethod: {
			"CONNECT blocked.example.com:443 HTTP/1.1\r\nHost: blocked.example.com:443\r\n\r\n", "CONNECT allowed.example.com:443 HTTP/1.1\r\n" + host + "\r\n",
			"CONNECT [::1]:22 HTTP/1.1\r\n\r\n", "CONNECT ]x HTTP/1.0\r\n\r\n",
		},
		event.UpgradeRefused: {
			"POST / HTTP/1.1\r\n" + host + "Upgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc",
		},
		event.Unclassified: {
			"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\n" + host + "\r\n", " GET / HTTP/1.1\r\n" + host + "\r\n",
			"\x15\x03\x01\x00\x02\x02\x28GET / HTTP/1.1\r\n" + host + "\r\n", "\x80\x2e\x01\x03\x01", "SSH-2.0-x\r\n",
		},
	}
}

func TestSmuggling(t *testing.T) {
	for _, mode := range []policy.Mode{policy.Restrict, policy.Audit} {
		spec := anyPort()
		spec.Mode = mode
		l := newLab(t, spec)
		for reason, requests := range corpus() {
			for _, request := range requests {
				// Nothing listens on 8080: reaching for an origin would be upstream-error.
				const port = 8080
				request = strings.ReplaceAll(request, "PORT", "8080")
				conn := l.named("allowed.example.com", port)
				go io.WriteString(conn, request)
				answer, _ := io.ReadAll(conn)
				ev := l.next()
				if ev.Verdict != event.Blocked || ev.Reason != reason {
					t.Errorf("%s: %.100q: %s %s (%s), want %s", mode, request, ev.Verdict, ev.Reason, ev.Detail, reason)
				}
				want := map[event.Reason]string{
					event.ConnectMethod: "HTTP/1.1 405 ", event.UpgradeRefused: "HTTP/1.1 501 ", event.InternalAddress: "HTTP/1.1 403 ", event.Unclassified: "",
				}
				if status, ok := want[reason]; !ok && !strings.HasPrefix(string(answer), "HTTP/1.1 400 ") ||
					!strings.HasPrefix(string(answer), status) || strings.Count(string(answer), "\r\nConnection: close\r\n") > 1 {
					t.Errorf("%s: %.100q: answer %q", mode, request, answer)
				}
				if !event.Printable(ev.Path + ev.RawName + ev.Method + ev.Detail) {
					t.Errorf("%.100q: unescaped text in %+v", request, ev)
				}
			}
		}
		if names := l.lookedUp(); len(names) > 0 {
			t.Errorf("%s: resolved %v", mode, names)
		}
	}
}

// What is forwarded is one request with one meaning, whatever chunks it came in.
func TestChunkAbuse(t *testing.T) {
	for body, want := range map[string]event.Reason{
		"5;ext=\"a\"\r\nhello\r\n0\r\n\r\n":         "",
		"005\r\nhello\r\n0\r\n\r\n":                 "",
		"5\nhello\r\n0\r\n\r\n":                     event.BadRequest,
		"5\r\nhelloX\r\n0\r\n\r\n":                  event.BadRequest,
		"x\r\nhello\r\n0\r\n\r\n":                   event.BadRequest,
		"ffffffffffffffffff\r\nhello\r\n0\r\n\r\n":  event.BadRequest,
		"-5\r\nhello\r\n0\r\n\r\n":                  event.BadRequest,
		"5\r\nhello\r\n0\r\nbad trailer\r\n\r\nxxx": event.BadRequest,
	} {
		l := newLab(t, anyPort())
		o := l.http(nil, false)
		conn := l.named("allowed.example.com", o.port)
		io.WriteString(conn, "POST / HTTP/1.1\r\nHost: allowed.example.com\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"+body)
		io.ReadAll(conn)
		ev := l.next()
		if ev.Reason != want {
			t.Errorf("%q: %+v, want %q", body, ev, want)
		}
		if n := len(o.log); n > 1 {
			t.Errorf("%q: the origin parsed %d requests", body, n)
		}
	}
}
