package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/event"
)

// A connection waits so long for its next request, whatever the one before took.
func TestKeepAliveLimit(t *testing.T) {
	const limit = 500 * time.Millisecond
	l := newLab(t, anyPort(), func(s *proxy.Server) { s.Limits.KeepAlive = limit })
	o := l.http(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-time.After(2 * limit)
		}
	}, false)
	conn := l.named("allowed.example.com", o.port)
	br := bufio.NewReader(conn)
	for _, path := range []string{"/slow", "/", "/slow", "/"} {
		fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n", path)
		if r, err := http.ReadResponse(br, nil); err != nil || r.StatusCode != 200 {
			t.Fatalf("%s: %v, %v", path, r, err)
		}
		l.want(event.Allowed, "http", "allowed.example.com", "")
	}
	waits := time.Now()
	if _, err := br.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("waiting for more ended with %v", err)
	}
	if waited := time.Since(waits); waited < limit*3/4 {
		t.Errorf("closed after %v", waited)
	}
}

// A head has to be complete in time, on a connection that has had others, too.
func TestSlowHead(t *testing.T) {
	l := newLab(t, anyPort(), func(s *proxy.Server) { s.Limits.Hello = 500 * time.Millisecond })
	o := l.http(nil, false)
	for requests := range 2 {
		conn := l.named("allowed.example.com", o.port)
		br := bufio.NewReader(conn)
		if requests == 1 {
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
			r, err := http.ReadResponse(br, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, r.Body)
			l.want(event.Allowed, "http", "allowed.example.com", "")
		}
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n")
		if r, err := http.ReadResponse(br, nil); err != nil || r.StatusCode != 408 {
			t.Errorf("after %d requests: %v, %v", requests, r, err)
		}
		if ev := l.next(); ev.Verdict != event.Blocked || ev.Reason != event.HelloTimeout {
			t.Errorf("after %d requests: %+v", requests, ev)
		}
	}
}
