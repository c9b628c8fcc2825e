package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
)

// What an origin says unasked on an idle connection, as servers do that get
// tired of waiting, is not the response to the next request.
func TestUnaskedResponse(t *testing.T) {
	for title, unasked := range map[string]string{
		"timeout": "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
		"garbage": "garbage",
		"end":     "",
	} {
		t.Run(title, func(t *testing.T) {
			l := newLab(t, anyPort())
			tired, said := make(chan struct{}), make(chan struct{}, 2)
			o := l.plain(public, func(c net.Conn) {
				br := bufio.NewReader(c)
				http.ReadRequest(br)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				<-tired
				io.WriteString(c, unasked)
				c.(countingConn).Conn.(*net.TCPConn).CloseWrite()
				said <- struct{}{}
				io.Copy(io.Discard, br)
			})
			conn := l.named("allowed.example.com", o.port)
			br := bufio.NewReader(conn)
			for i := range 2 {
				fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n", i)
				r, err := http.ReadResponse(br, nil)
				if err != nil {
					t.Fatal(err)
				}
				if body, err := io.ReadAll(r.Body); r.StatusCode != 200 || string(body) != "ok" || err != nil {
					t.Errorf("request %d: %s %q %v", i, r.Status, body, err)
				}
				l.want(event.Allowed, "http", "allowed.example.com", "")
				if i == 0 {
					close(tired)
					<-said
				}
			}
		})
	}
}
