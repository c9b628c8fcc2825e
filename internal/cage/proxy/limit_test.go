package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

func tcpAnywhere() policy.Spec {
	spec := anyPort()
	spec.Rules.TCP = texts("git.example.com:*")
	return spec
}

func withBudget(bytes int64) policy.Spec {
	spec := tcpAnywhere()
	spec.Steps = []policy.StepSpec{{Rules: spec.Rules, MaxUpload: bytes}}
	return spec
}

// The budget is the step's, over all its connections, and what would exceed it is not sent.
func TestUploadBudget(t *testing.T) {
	l := newLab(t, withBudget(10_000))
	o := l.plain(public, func(c net.Conn) { io.Copy(io.Discard, c) })
	first := l.named("git.example.com", o.port)
	first.Write(make([]byte, 6000))
	first.CloseWrite()
	io.ReadAll(first)
	if ev := l.want(event.Allowed, "tcp", "git.example.com", ""); ev.Up != 6000 {
		t.Errorf("%+v", ev)
	}
	second := l.named("git.example.com", o.port)
	second.Write(make([]byte, 6000))
	wasReset(t, second)
	l.want(event.Blocked, "tcp", "git.example.com", event.UploadBudget)
	if n := o.bytes.Load(); n > 10_000 {
		t.Errorf("%d bytes reached the origin", n)
	}
}

func TestUploadBudgetHTTP(t *testing.T) {
	l := newLab(t, withBudget(10_000))
	o := l.http(nil, false)
	for i := range 2 {
		conn := l.named("allowed.example.com", o.port)
		fmt.Fprintf(conn, "POST / HTTP/1.1\r\nHost: allowed.example.com\r\nConnection: close\r\nContent-Length: 6000\r\n\r\n%s", strings.Repeat("a", 6000))
		io.ReadAll(conn)
		if i == 0 {
			l.want(event.Allowed, "http", "allowed.example.com", "")
		} else {
			l.want(event.Blocked, "http", "allowed.example.com", event.UploadBudget)
		}
	}
	if n := len(o.log); n != 1 {
		t.Errorf("%d requests reached the origin", n)
	}
}

// What a plain request says counts, and the one that is too much is recorded with its size.
func TestUploadBudgetPlain(t *testing.T) {
	l := newLab(t, withBudget(1000))
	o := l.http(nil, false)
	conn := l.named("allowed.example.com", o.port)
	br := bufio.NewReader(conn)
	request := "GET /" + strings.Repeat("a", 400) + " HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n"
	for i, want := range []int{200, 200, 403} {
		io.WriteString(conn, request)
		r, err := http.ReadResponse(br, nil)
		if err != nil || r.StatusCode != want {
			t.Fatalf("request %d: %v, %v", i, r, err)
		}
		io.Copy(io.Discard, r.Body)
		if ev := l.next(); ev.Up != int64(len(request)) || (ev.Reason == event.UploadBudget) != (want == 403) {
			t.Errorf("request %d: %+v", i, ev)
		}
	}
	if n := len(o.log); n != 2 {
		t.Errorf("%d requests reached the origin", n)
	}
}

func TestUploadBudgetTLS(t *testing.T) {
	l := newLab(t, withBudget(100))
	o := l.http(nil, true)
	conn := l.named("allowed.example.com", o.port)
	conn.Write(helloFor("allowed.example.com"))
	wasReset(t, conn)
	l.want(event.Blocked, "tls", "allowed.example.com", event.UploadBudget)
	l.untouched(o)
}

func TestOverload(t *testing.T) {
	for title, set := range map[string]func(*proxy.Server){
		"all":  func(s *proxy.Server) { s.Limits.Conns = 2 },
		"step": func(s *proxy.Server) { s.Limits.StepConns = 2 },
	} {
		t.Run(title, func(t *testing.T) {
			l := newLab(t, tcpAnywhere(), set)
			o := l.plain(public, greet)
			conns := []*net.TCPConn{l.named("git.example.com", o.port), l.named("git.example.com", o.port)}
			for _, c := range conns {
				io.ReadFull(c, make([]byte, 21))
			}
			wasReset(t, l.named("git.example.com", o.port))
			l.want(event.Blocked, "", "", event.Overload)
			for _, c := range conns {
				c.Close()
				l.want(event.Allowed, "tcp", "git.example.com", "")
			}
			talk(t, l.named("git.example.com", o.port)) // the slots are free again
			l.want(event.Allowed, "tcp", "git.example.com", "")
		})
	}
}

// Without a pipe to be had bytes go through a buffer, the same ones.
func TestPipesUsedUp(t *testing.T) {
	for _, most := range []int{-1, 1} {
		l := newLab(t, tcpAnywhere(), func(s *proxy.Server) { s.Limits.Pipes = most })
		o := l.plain(public, func(c net.Conn) { io.Copy(c, c) })
		sent := make([]byte, 8<<20)
		for i := range sent {
			sent[i] = byte(i * i >> 9)
		}
		var all sync.WaitGroup
		for range 4 {
			conn := l.named("git.example.com", o.port)
			all.Go(func() {
				go func() {
					conn.Write(sent)
					conn.CloseWrite()
				}()
				if got, err := io.ReadAll(conn); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%d pipes: %d bytes came back, %v", most, len(got), err)
				}
			})
		}
		all.Wait()
		for range 4 {
			if ev := l.want(event.Allowed, "tcp", "git.example.com", ""); ev.Up != int64(len(sent)) || ev.Down != int64(len(sent)) {
				t.Errorf("%d pipes: counted %d up, %d down", most, ev.Up, ev.Down)
			}
		}
	}
}

func TestIdle(t *testing.T) {
	l := newLab(t, tcpAnywhere(), func(s *proxy.Server) { s.Limits.Idle = 200 * time.Millisecond })
	silent := l.plain(public, func(c net.Conn) { io.Copy(io.Discard, c) })
	wasReset(t, l.named("git.example.com", silent.port))
	l.want(event.Allowed, "tcp", "git.example.com", event.Idle)
	conn := l.named("allowed.example.com", silent.port)
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: allowed.example.com\r\n\r\n")
	wasReset(t, conn)
	l.want(event.Allowed, "http", "allowed.example.com", event.Idle)
}

// One that moves now and then stays, even if this machine stalls for a second.
func TestNotIdle(t *testing.T) {
	l := newLab(t, tcpAnywhere(), func(s *proxy.Server) { s.Limits.Idle = 2 * time.Second })
	o := l.plain(public, func(c net.Conn) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for range 30 {
			<-tick.C
			io.WriteString(c, ".")
		}
	})
	conn := l.named("git.example.com", o.port)
	conn.CloseWrite()
	if b, err := io.ReadAll(conn); err != nil || len(b) != 30 {
		t.Errorf("%q, %v", b, err)
	}
	l.want(event.Allowed, "tcp", "git.example.com", "")
}

// 32 MiB each way at once, byte for byte, counted.
func TestBulk(t *testing.T) {
	l := newLab(t, tcpAnywhere())
	o := l.plain(public, func(c net.Conn) { io.Copy(c, c) })
	data := make([]byte, 32<<20)
	rand.Read(data)
	conn := l.named("git.example.com", o.port)
	go func() {
		io.Copy(conn, bytes.NewReader(data))
		conn.CloseWrite()
	}()
	h := sha256.New()
	n, err := io.Copy(h, conn)
	if err != nil || n != int64(len(data)) || [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if ev := l.want(event.Allowed, "tcp", "git.example.com", ""); ev.Up != n || ev.Down != n {
		t.Errorf("%+v", ev)
	}
}

// A reset of one side reaches the other as a reset.
func TestResetIsPassedOn(t *testing.T) {
	l := newLab(t, tcpAnywhere())
	o := l.plain(public, func(c net.Conn) {
		c.Read(make([]byte, 1))
		c.(countingConn).Conn.(*net.TCPConn).SetLinger(0)
	})
	conn := l.named("git.example.com", o.port)
	io.WriteString(conn, "x")
	wasReset(t, conn)
	l.want(event.Failed, "tcp", "git.example.com", event.UpstreamError)
}
