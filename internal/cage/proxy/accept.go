package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listen returns a listener as the proxy wants it: plain TCP, which can be
// spliced, and no keep-alive probes until a connection goes quiet.
func Listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	config := net.ListenConfig{KeepAlive: -1, Control: inherited}
	config.SetMultipathTCP(false)
	return config.Listen(ctx, "tcp", addr.String())
}

// inherited sets what the connections of a listener have from it: no waiting
// for more to send, and a congestion control without a pace. The way to a step is a
// link inside of this machine; where the machine's default is BBR, its timers took
// a third of the time of a stream.
func inherited(_, _ string, raw syscall.RawConn) error {
	var err error
	controlled := raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptString(int(fd), unix.IPPROTO_TCP, unix.TCP_CONGESTION, "reno") // slower, not wrong
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	})
	return errors.Join(controlled, err)
}

const (
	// acceptTurn is how many connections are accepted before others have a turn.
	acceptTurn = 64
	// acceptPause is how long clients wait when there is no room for them.
	acceptPause = 5 * time.Millisecond
)

// accept starts sessions until the listener is closed. Package net is asked
// only when there is something to accept; see peer.
func (s *Server) accept(ctx context.Context, l net.Listener) error {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return errors.New("accepting connections: the listener is not TCP")
	}
	file, err := tcp.File() // a listener lets nobody else wait for it
	if err != nil {
		return fmt.Errorf("accepting connections: %w", err)
	}
	defer file.Close()
	defer context.AfterFunc(ctx, func() { file.Close() })()
	raw, err := file.SyscallConn()
	if err != nil {
		return fmt.Errorf("accepting connections: %w", err)
	}
	local := addrPort(l.Addr())
	for {
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			for range acceptTurn {
				if failed = s.acceptOne(int(fd), local); failed != nil {
					break
				}
			}
			return !errors.Is(failed, unix.EAGAIN)
		})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("accepting connections: %w", err)
		case failed == nil:
			runtime.Gosched()
		case errors.Is(failed, unix.EMFILE), errors.Is(failed, unix.ENFILE), errors.Is(failed, unix.ENOBUFS),
			errors.Is(failed, unix.ENOMEM), errors.Is(failed, unix.ECONNABORTED), errors.Is(failed, unix.EINTR):
			// The kernel keeps the client waiting; try again when something was freed.
			s.Logger.Warn("accepting", "error", failed)
			select {
			case <-time.After(acceptPause):
			case <-ctx.Done():
				return nil
			}
		default:
			return fmt.Errorf("accepting connections: %w", failed)
		}
	}
}

// acceptOne accepts a connection and starts its session.
func (s *Server) acceptOne(listener int, local netip.AddrPort) error {
	fd, from, err := acceptNow(listener)
	if err != nil {
		return err
	}
	p := &peer{fd: fd, remote: from, local: local}
	s.wait.Add(1)
	if s.resting.change(-1) {
		s.next <- p // has room for all who rest
	} else {
		go s.work(p)
	}
	return nil
}

// maxResting is how many goroutines without a session are kept: one that has
// served has a stack of the size that it takes.
const maxResting = 64

// work serves p, and others after it while that saves a goroutine.
func (s *Server) work(p *peer) {
	for {
		s.serve(p)
		if !s.resting.change(1) {
			return
		}
		if p = <-s.next; p == nil {
			return
		}
	}
}

// resters counts the goroutines that rest, from none to maxResting.
type resters struct{ n atomic.Int32 }

// change adds one or takes one away, if there is one or room for one.
func (r *resters) change(by int32) bool {
	for {
		n := r.n.Load()
		if n+by < 0 || n+by > maxResting {
			return false
		}
		if r.n.CompareAndSwap(n, n+by) {
			return true
		}
	}
}
