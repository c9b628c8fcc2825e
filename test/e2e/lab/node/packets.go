package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/test/e2e/lab/frame"
)

// sniffer counts every packet that reaches the node's interface, before any
// firewall has a say. It is how the sink sees what no socket could.
type sniffer struct {
	fd    int
	mu    sync.Mutex
	count *counter
	buf   []byte
}

func startSniffer(link string, c *counter) error {
	i, err := net.InterfaceByName(link)
	if err != nil {
		return fmt.Errorf("finding %s: %w", link, err)
	}
	all := binary.NativeEndian.Uint16([]byte{unix.ETH_P_ALL >> 8, unix.ETH_P_ALL & 0xff})
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all))
	if err != nil {
		return fmt.Errorf("capturing: %w", err)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20); err != nil {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20) // without the capability: what is allowed
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}); err != nil {
		return errors.Join(fmt.Errorf("capturing on %s: %w", link, err), unix.Close(fd))
	}
	s := &sniffer{fd: fd, count: c, buf: make([]byte, 1<<16)}
	c.drain = s.drain
	go s.run()
	return nil
}

func (s *sniffer) run() {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, int(time.Second.Milliseconds())); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		s.drain()
	}
}

func (s *sniffer) drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		n, from, err := unix.Recvfrom(s.fd, s.buf, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
			s.packet(s.buf[:n])
		}
	}
}

func (s *sniffer) packet(b []byte) {
	p, ok := frame.Parse(b)
	if !ok || p.Noise() || foreign(p.Src) {
		return
	}
	s.count.flow(p.Proto, p.Src, p.Dst, p.Port, p.SYN, p.Payload, len(p.Payload))
}

// foreign are the bridge's own packets: the engine's machine sends them, and
// no step has that address.
func foreign(src netip.Addr) bool { return src == netip.MustParseAddr("10.200.0.1") }
