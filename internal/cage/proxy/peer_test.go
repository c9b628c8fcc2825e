package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newPeer is a peer on a relay, and the client that it belongs to.
func newPeer(t *testing.T) (*peer, int) {
	t.Helper()
	r, err := newRelay(new(pipes))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := addrPort(l.Addr())
	if err := unix.Connect(client, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); err != nil {
		t.Fatal(err)
	}
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	fd, err := detached(conn.(*net.TCPConn))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	p := &peer{fd: fd, relay: r}
	t.Cleanup(func() {
		p.Close()
		r.close()
		unix.Close(client)
	})
	return p, client
}

// later does f when somebody waits for the peer.
func later(p *peer, f func()) {
	go func() {
		for {
			p.mu.Lock()
			waits := p.waiter != nil
			p.mu.Unlock()
			if waits {
				f()
				return
			}
			runtime.Gosched()
		}
	}()
}

func say(t *testing.T, fd int, text string) {
	if _, err := unix.Write(fd, []byte(text)); err != nil {
		t.Error(err)
	}
}

func hear(t *testing.T, p *peer, want string) {
	t.Helper()
	b := make([]byte, 16)
	n, err := p.Read(b)
	if err != nil || string(b[:n]) != want {
		t.Fatalf("%q, %v; want %q", b[:n], err, want)
	}
}

// What was waited for as a descriptor is read on as a connection.
func TestPeerReads(t *testing.T) {
	p, client := newPeer(t)
	later(p, func() { say(t, client, "a") })
	hear(t, p, "a")
	say(t, client, "b")
	hear(t, p, "b")
	conn := p.open()
	if p.open() != conn {
		t.Error("it was opened twice")
	}
	say(t, client, "c")
	hear(t, p, "c")
	unix.Close(client)
	if _, err := p.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	for _, x := range p.relay.carried {
		if x != nil {
			t.Error("it has its place on the relay yet")
		}
	}
}

func TestPeerStopsWaiting(t *testing.T) {
	for name, c := range map[string]struct {
		stop func(*peer)
		want error
	}{
		"late":   {func(p *peer) { p.SetReadDeadline(time.Now().Add(20 * time.Millisecond)) }, os.ErrDeadlineExceeded},
		"past":   {func(p *peer) { p.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"closed": {func(p *peer) { p.Close() }, net.ErrClosed},
		"cut":    {func(p *peer) { later(p, func() { p.hard(); p.Close() }) }, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			p, _ := newPeer(t)
			c.stop(p)
			if _, err := p.Read(make([]byte, 1)); !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
		})
	}
}

// A descriptor that was given away or closed is nobody's to touch: its number
// may be another connection's by then.
func TestPeerGivesUp(t *testing.T) {
	p, client := newPeer(t)
	later(p, func() { say(t, client, "a") })
	hear(t, p, "a")
	fd, watched, err := p.release()
	if err != nil || !watched {
		t.Fatalf("%v, watched %t", err, watched)
	}
	p.hard()
	p.Close()
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil {
		t.Errorf("what was given away was closed: %v", err)
	}
	closeNow(fd)
	if _, err := p.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("reading: %v", err)
	}
	if _, _, err := p.release(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("giving it away again: %v", err)
	}
	if _, err := p.open().Write([]byte("x")); err == nil {
		t.Error("writing worked")
	}
}
