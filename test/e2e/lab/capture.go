package lab

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/test/e2e/lab/frame"
	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// Capture counts what leaves by one interface.
type Capture struct {
	fd    int
	mu    sync.Mutex
	flows map[wire.Flow]*wire.Flow
	lost  uint32
	buf   []byte
	done  chan struct{}
}

// snap is what is kept of a frame: all headers.
const snap = 256

// newCapture starts one in the namespace of the calling thread.
func newCapture(index int, name string) (*Capture, error) {
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return nil, fmt.Errorf("capturing: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20); err != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20) // what is allowed; lost frames are counted
	}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, leaving()); err != nil {
		return nil, errors.Join(fmt.Errorf("capturing on %s: %w", name, err), unix.Close(fd))
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: index}); err != nil {
		return nil, errors.Join(fmt.Errorf("capturing on %s: %w", name, err), unix.Close(fd))
	}
	c := &Capture{fd: fd, flows: make(map[wire.Flow]*wire.Flow), buf: make([]byte, snap), done: make(chan struct{})}
	go c.run()
	return c, nil
}

// leaving is a program that keeps the headers of what leaves. What comes in would
// fill the queue: a frame of 64 KiB takes as much of it, however little is kept.
func leaving() *unix.SockFprog {
	const pkttype = -0x1000 + 4 // SKF_AD_OFF + SKF_AD_PKTTYPE
	kind := int32(pkttype)
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_B | unix.BPF_ABS, K: uint32(kind)},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.PACKET_OUTGOING, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: snap},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
	}
	return &unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
}

func (c *Capture) run() {
	fds := []unix.PollFd{{Fd: int32(c.fd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, int((100 * time.Millisecond).Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		select {
		case <-c.done:
			return
		default:
		}
		c.mu.Lock()
		c.drain()
		c.mu.Unlock()
	}
}

func (c *Capture) drain() {
	for {
		n, from, err := unix.Recvfrom(c.fd, c.buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || ll.Pkttype != unix.PACKET_OUTGOING {
			continue
		}
		p, ok := frame.Parse(c.buf[:n])
		if !ok || p.Noise() {
			continue
		}
		key := wire.Flow{Proto: p.Proto, Src: p.Src, Dst: p.Dst, Port: p.Port}
		f := c.flows[key]
		if f == nil {
			f = &wire.Flow{Proto: p.Proto, Src: p.Src, Dst: p.Dst, Port: p.Port}
			c.flows[key] = f
		}
		f.Packets++
		f.Bytes += int64(len(p.Payload))
		if p.SYN {
			f.SYNs++
		}
	}
}

// Flows are the packets that left so far, and how many the kernel lost.
func (c *Capture) Flows() (flows []wire.Flow, lost uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	if s, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
		c.lost += s.Drops
	}
	for _, f := range c.flows {
		flows = append(flows, *f)
	}
	slices.SortFunc(flows, func(a, b wire.Flow) int {
		return cmp.Or(cmp.Compare(a.Proto, b.Proto), a.Dst.Compare(b.Dst), cmp.Compare(a.Port, b.Port))
	})
	return flows, c.lost
}

// Reset forgets what was counted.
func (c *Capture) Reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drain()
	clear(c.flows)
}

// Close ends the capture; it holds the namespace open.
func (c *Capture) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.done:
		return
	default:
	}
	close(c.done)
	unix.Close(c.fd)
}
