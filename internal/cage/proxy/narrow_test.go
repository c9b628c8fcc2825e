package proxy_test

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// A step that turns out to be another build's, too, has that one's budget from
// then on, for all that it has sent, also over connections that are open.
func TestNarrowedBudget(t *testing.T) {
	for title, before := range map[string]policy.Spec{"none before": tcpAnywhere(), "a larger one before": withBudget(1 << 20)} {
		t.Run(title, func(t *testing.T) {
			l := newLab(t, before)
			o := l.plain(public, func(c net.Conn) { io.Copy(c, c) })
			ended := l.named("git.example.com", o.port)
			exchangeAll(t, ended, 4000)
			l.want(event.Allowed, "tcp", "git.example.com", "")
			open := l.named("git.example.com", o.port)
			open.Write(make([]byte, 4000))
			io.ReadFull(open, make([]byte, 4000))

			narrow, err := policy.Compile(withBudget(10_000))
			if err != nil {
				t.Fatal(err)
			}
			l.server.Steps.Lookup(netip.MustParseAddr("127.0.0.1")).Narrow(narrow.For(policy.Step{}))
			open.Write(make([]byte, 4000))
			if _, err := open.Read(make([]byte, 1)); err == nil {
				t.Fatal("what is beyond the budget came back")
			}
			if ev := l.next(); ev.Verdict != event.Blocked || ev.Reason != event.UploadBudget {
				t.Errorf("the open connection: %s %s", ev.Verdict, ev.Reason)
			}
			wasReset(t, l.named("git.example.com", o.port))
			l.want(event.Blocked, "tcp", "git.example.com", event.UploadBudget)
			if n := o.bytes.Load(); n > 10_000 {
				t.Errorf("%d bytes reached the origin", n)
			}
		})
	}
}

// exchangeAll sends n bytes, ends its side and reads to the end.
func exchangeAll(t *testing.T, conn *net.TCPConn, n int) {
	t.Helper()
	conn.Write(make([]byte, n))
	conn.CloseWrite()
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
}
