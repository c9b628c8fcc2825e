package firewall

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/florianl/go-nflog/v2"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// logBuffer is the size of the socket's receive buffer: the kernel drops what
// does not fit, and the counters show it.
const logBuffer = 8 << 20

// Log receives the packets that the rules log.
type Log struct {
	received atomic.Uint64
	failed   chan error
	conn     *nflog.Nflog
	cancel   context.CancelFunc
}

// OpenLog binds to the NFLOG group. It must come before Install: what is
// logged while nobody is bound is only counted. handle is called for one
// packet at a time, in order, and must not keep the payload.
func OpenLog(group uint16, handle func(Packet)) (*Log, error) {
	conn, err := nflog.Open(&nflog.Config{Group: group, Copymode: nflog.CopyPacket, Bufsize: 64 << 10, QThresh: 1})
	if err != nil {
		return nil, fmt.Errorf("opening packet log: %w", err)
	}
	if err := growBuffer(conn.Con); err != nil {
		return nil, errors.Join(fmt.Errorf("sizing packet log: %w", err), conn.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := &Log{failed: make(chan error, 1), conn: conn, cancel: cancel}
	hook := func(a nflog.Attribute) int {
		if p, ok := packetOf(a); ok {
			handle(p)
		}
		l.received.Add(1)
		return 0
	}
	if err := conn.RegisterWithErrorFunc(ctx, hook, l.onError(ctx)); err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("binding packet log: %w", err), conn.Close())
	}
	return l, nil
}

// onError goes on after an overflow, which the counters account for, and ends
// the listener after anything else.
func (l *Log) onError(ctx context.Context) func(error) int {
	return func(err error) int {
		if errors.Is(err, unix.ENOBUFS) {
			return 0
		}
		if ctx.Err() == nil {
			l.failed <- fmt.Errorf("reading packet log: %w", err)
		}
		return 1
	}
}

func growBuffer(c *netlink.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, logBuffer)
		if set != nil {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, logBuffer)
		}
	})
	return errors.Join(err, set)
}

// Failed delivers the error that ended the listener.
func (l *Log) Failed() <-chan error { return l.failed }

// Received is the number of packets handled so far.
func (l *Log) Received() uint64 { return l.received.Load() }

// Settle waits until want packets have been handled, but no longer than
// patience, and returns how many are missing.
func (l *Log) Settle(ctx context.Context, want uint64, patience time.Duration) uint64 {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		got := l.Received()
		if got >= want {
			return 0
		}
		select {
		case <-ctx.Done():
			return want - got
		case <-tick.C:
		}
	}
}

// Close ends the listener.
func (l *Log) Close() error {
	l.cancel()
	return l.conn.Close()
}

func packetOf(a nflog.Attribute) (Packet, bool) {
	if a.Payload == nil || a.Prefix == nil {
		return Packet{}, false
	}
	p, ok := Decode(*a.Payload)
	p.Prefix = Prefix(strings.TrimRight(*a.Prefix, "\x00"))
	if a.InDev != nil {
		p.In = int(*a.InDev)
	}
	return p, ok
}
