package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
)

// script answers the requests on each connection with one text each, and then closes it.
func script(texts ...string) func(net.Conn) {
	return func(c net.Conn) {
		br := bufio.NewReader(c)
		for _, text := range texts {
			if _, err := http.ReadRequest(br); err != nil {
				return
			}
			io.WriteString(c, text)
		}
	}
}

const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// Requests without a body share a connection to the origin. One that the
// origin has closed meanwhile is replaced without a word.
func TestOriginHangsUpBetweenRequests(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.plain(public, script(ok, ok))
	conn := l.named("allowed.example.com", o.port)
	br := bufio.NewReader(conn)
	for i := range 5 {
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
		r, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(r.Body); string(b) != "ok" || r.StatusCode != 200 {
			t.Errorf("request %d: %d %q, %v", i, r.StatusCode, b, err)
		}
		if ev := l.want(event.Allowed, "http", "allowed.example.com", ""); ev.Request != i+1 || !ev.Dialled.IsValid() {
			t.Errorf("request %d: %+v", i, ev)
		}
	}
	if n := o.conns.Load(); n != 3 {
		t.Errorf("%d connections to the origin, want 3", n)
	}
}

// What an origin may say before its response, and what it may not.
func TestResponses(t *testing.T) {
	const interim = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
	for name, c := range map[string]struct {
		says    string
		status  int
		verdict event.Verdict
	}{
		"interim":            {interim + interim + ok, 200, event.Allowed},
		"interim for ever":   {interim + interim + interim + interim + interim + interim + interim + ok, 502, event.Failed},
		"switching unasked":  {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 502, event.Failed},
		"nothing":            {"", 502, event.Failed},
		"no HTTP":            {"hello\r\n\r\n", 502, event.Failed},
		"until it closes":    {"HTTP/1.1 200 OK\r\n\r\nok", 200, event.Allowed},
		"more than its body": {ok + "HTTP/1.1 200 OK\r\n\r\n", 200, event.Allowed},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, anyPort())
			o := l.plain(public, script(c.says))
			conn := l.named("allowed.example.com", o.port)
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
			r, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			if b, err := io.ReadAll(r.Body); r.StatusCode != c.status || c.status == 200 && string(b) != "ok" {
				t.Errorf("%d %q, %v", r.StatusCode, b, err)
			}
			if ev := l.next(); ev.Verdict != c.verdict {
				t.Errorf("%+v", ev)
			}
		})
	}
}

// A response that breaks off is not taken for whole, and nothing follows on its connection.
func TestResponseBreaksOff(t *testing.T) {
	l := newLab(t, anyPort())
	o := l.plain(public, script("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok"))
	conn := l.named("allowed.example.com", o.port)
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
	r, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r.Body); err == nil {
		t.Errorf("%q is whole", b)
	}
	l.want(event.Failed, "http", "allowed.example.com", event.UpstreamError)
}

// A head is found whatever pieces it comes in, however long it is and however
// its lines end, without waiting for more than it has.
func TestResponseHeads(t *testing.T) {
	for name, text := range map[string]string{
		"plain":         ok,
		"long":          "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 5000) + "\r\nContent-Length: 2\r\n\r\nok",
		"bare newlines": "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
		"chunked":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, anyPort())
			o := l.plain(public, func(c net.Conn) {
				br := bufio.NewReader(c)
				for piece := 1; ; piece *= 100 {
					if _, err := http.ReadRequest(br); err != nil {
						return
					}
					for rest := text; rest != ""; rest = rest[min(piece, len(rest)):] {
						io.WriteString(c, rest[:min(piece, len(rest))])
					}
				}
			})
			conn := l.named("allowed.example.com", o.port)
			br := bufio.NewReader(conn)
			for range 3 {
				io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
				r, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if b, err := io.ReadAll(r.Body); string(b) != "ok" || err != nil {
					t.Errorf("%q, %v", b, err)
				}
				l.want(event.Allowed, "http", "allowed.example.com", "")
			}
			if n := o.conns.Load(); n != 1 {
				t.Errorf("%d connections to the origin", n)
			}
		})
	}
}
