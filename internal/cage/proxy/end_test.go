package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/upstream"
	"github.com/buildcage/buildcage/internal/event"
)

// TCP's urgent byte, which nobody passes on, makes the kernel stop a read or a
// splice in front of it: that is neither all that there is nor the end.
func TestUrgent(t *testing.T) {
	for title, size := range map[string]int{"little": 10, "much": 300_000} {
		for _, ended := range []bool{false, true} {
			t.Run(title, func(t *testing.T) {
				l := newLab(t, tcpAnywhere())
				o := l.plain(public, func(c net.Conn) { io.Copy(c, c) })
				conn := l.silent()
				sent := bytes.Repeat([]byte("x"), size)
				conn.Write(sent[:size/2])
				urgent(t, conn)
				conn.Write(sent[size/2:])
				if ended {
					conn.CloseWrite()
				}
				l.toward(conn, fakeOf("git.example.com"), o.port)
				conn.SetReadDeadline(time.Now().Add(5 * time.Second))
				got := make([]byte, size)
				if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%d bytes of %d came back, %v", n, size, err)
				}
				conn.CloseWrite()
				io.Copy(io.Discard, conn)
				if ev := l.want(event.Allowed, "tcp", "git.example.com", ""); ev.Up != int64(size) {
					t.Errorf("counted %d of %d bytes", ev.Up, size)
				}
			})
		}
	}
}

func urgent(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if bad := raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte{'!'}, unix.MSG_OOB, nil) }); bad != nil || err != nil {
		t.Fatal(bad, err)
	}
}

// A connection that was accepted and gets nowhere before Drain has cut the
// others ends, too.
func TestDrainLatecomer(t *testing.T) {
	for name, to := range map[string]netip.Addr{"dialled": public, "silent": fakeOf("allowed.example.com")} {
		t.Run(name, func(t *testing.T) { latecomer(t, to) })
	}
}

func latecomer(t *testing.T, to netip.Addr) {
	spec := tcpAnywhere()
	spec.Rules.IP = texts(public.String() + ":*")
	l := newLab(t, spec)
	o := l.plain(public, func(c net.Conn) { io.Copy(c, c) })
	open := l.named("git.example.com", o.port)
	talkOnce(t, open)
	late := l.silent()
	l.stop()
	<-l.stopped
	over, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.server.Drain(over)
	}()
	io.Copy(io.Discard, open) // is cut: from now on nobody looks for others
	l.next()
	l.toward(late, to, o.port)
	select {
	case <-done:
	case <-time.After(l.server.Limits.Hello / 2):
		t.Error("Drain waits for a connection that nobody cuts")
		late.Close()
		<-done
	}
	l.next()
}

func talkOnce(t *testing.T, conn *net.TCPConn) {
	t.Helper()
	conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// An origin that does not answer has its time, and no more.
func TestSilentOrigin(t *testing.T) {
	l := newLab(t, tcpAnywhere())
	full, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(full)
	if err := errors.Join(unix.Bind(full, &unix.SockaddrInet4{Addr: public.As4()}), unix.Listen(full, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(full)
	if err != nil {
		t.Fatal(err)
	}
	port := name.(*unix.SockaddrInet4).Port
	first, err := net.Dial("tcp", netip.AddrPortFrom(public, uint16(port)).String()) // takes the only place
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()

	conn := l.named("git.example.com", port)
	for l.server.Connecting() == 0 {
		runtime.Gosched()
	}
	now := time.Now()
	l.server.Overdue(now.Add(upstream.DialTimeout - time.Second))
	if n := l.server.Connecting(); n != 1 {
		t.Errorf("%d are connecting, want the one that has time left", n)
	}
	l.server.Overdue(now.Add(upstream.DialTimeout + time.Second))
	l.want(event.Failed, "tcp", "git.example.com", event.UpstreamError)
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("reading: %v", err)
	}
	if n := l.server.Connecting(); n != 0 {
		t.Errorf("%d are connecting", n)
	}
}

// A client that has said all, and then is gone, takes the way to a silent
// origin along: steps end like that.
func TestResetAfterEnd(t *testing.T) {
	l := newLab(t, tcpAnywhere())
	heard, over := make(chan struct{}), make(chan struct{})
	defer close(over)
	o := l.plain(public, func(c net.Conn) {
		io.Copy(io.Discard, c)
		close(heard)
		<-over
	})
	conn := l.named("git.example.com", o.port)
	conn.CloseWrite()
	<-heard
	conn.SetLinger(0)
	conn.Close()
	select {
	case ev := <-l.events:
		if ev.Verdict != event.Allowed || ev.Detail != "" {
			t.Errorf("event %+v", ev)
		}
	case <-time.After(5 * time.Second):
		t.Error("the connection goes on")
	}
}

// What goes on can be told before it ends.
func TestOpen(t *testing.T) {
	l := newLab(t, tcpAnywhere())
	o := l.plain(public, func(c net.Conn) { io.Copy(c, c) })
	one := l.server.Steps.Lookup(netip.MustParseAddr("127.0.0.1"))
	if list := l.server.Open(t.Context(), one); len(list) != 0 {
		t.Errorf("before: %+v", list)
	}
	conn := l.named("git.example.com", o.port)
	talkOnce(t, conn)
	list := l.server.Open(t.Context(), one)
	if len(list) != 1 {
		t.Fatalf("open: %+v", list)
	}
	if ev := list[0].Conn; ev.Verdict != event.Allowed || ev.Name != "git.example.com" || ev.Up != 1 || ev.Down != 1 || ev.Dialled.Addr() != public {
		t.Errorf("open: %+v", ev)
	}
	if list := l.server.Open(t.Context(), new(step.Step)); len(list) != 0 {
		t.Errorf("another step's: %+v", list)
	}
	conn.Close()
	l.want(event.Allowed, "tcp", "git.example.com", "")
}

// What has ended is written down before Open returns: the record ends then.
func TestOpenWaitsForTheClerk(t *testing.T) {
	writing, disk := make(chan struct{}), make(chan struct{})
	l := newLab(t, tcpAnywhere(), func(s *proxy.Server) {
		record := s.Record
		s.Record = func(r event.Record) {
			close(writing)
			<-disk
			record(r)
		}
	})
	o := l.plain(public, func(c net.Conn) { io.Copy(c, c) })
	conn := l.named("git.example.com", o.port)
	talkOnce(t, conn)
	conn.Close()
	<-writing
	busy := time.AfterFunc(50*time.Millisecond, func() { close(disk) })
	defer busy.Stop()
	list := l.server.Open(t.Context(), l.server.Steps.Lookup(netip.MustParseAddr("127.0.0.1")))
	if len(list) != 0 || len(l.events) != 1 {
		t.Errorf("%d are open, %d are written down", len(list), len(l.events))
	}
	l.want(event.Allowed, "tcp", "git.example.com", "")
}
