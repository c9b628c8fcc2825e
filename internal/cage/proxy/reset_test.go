package proxy_test

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
)

// An origin that says something and breaks off, as servers do that leave a
// request unread, is heard out by the client, as it would be without a proxy.
func TestLastWordsBeforeReset(t *testing.T) {
	l := newLab(t, tcpAnywhere())
	o := l.plain(public, func(c net.Conn) {
		io.ReadFull(c, make([]byte, 1))
		io.WriteString(c, "go away")
		tcp := c.(countingConn).Conn.(*net.TCPConn)
		tcp.SetLinger(0)
		tcp.Close()
	})
	for range 50 {
		conn := l.named("git.example.com", o.port)
		io.WriteString(conn, "x")
		got, err := io.ReadAll(conn)
		if string(got) != "go away" || err == nil || !strings.Contains(err.Error(), "reset by peer") {
			t.Fatalf("the client read %q, %v", got, err)
		}
		if ev := l.want(event.Allowed, "tcp", "git.example.com", ""); ev.Down != int64(len("go away")) {
			t.Errorf("counted %d bytes", ev.Down)
		}
		conn.Close()
	}
}
