package nameserver

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/event"
)

const (
	udpQueue    = 8 << 20 // more than the bursts that the firewall lets through at once
	maxQuery    = 4096    // bytes; no resolver asks anything longer
	idleTimeout = 8 * time.Second
	maxConns    = 512 // TCP connections at a time
	maxStepConn = 64  // of them from one step
	acceptPause = 50 * time.Millisecond
)

// enlarge makes the kernel's queue, which a burst waits in, as long as it may
// be: any length for an administrator of the network, else what the system allows.
func enlarge(conn *net.UDPConn) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return
	}
	var forced error
	err = raw.Control(func(fd uintptr) {
		forced = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, udpQueue)
	})
	if err != nil || forced != nil {
		_ = conn.SetReadBuffer(udpQueue) // shorter, but of use
	}
}

// serveUDP reads, answers and writes one query after the other: nothing waits
// in memory, and nothing here waits for anybody.
func (s *Server) serveUDP(conn *net.UDPConn) error {
	buf := make([]byte, maxQuery+1)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return err
		}
		who := s.asker(from.Addr())
		if !s.limiter.allow(who.step, time.Now()) {
			s.record(who, event.DNS{Reason: event.Overload})
			continue
		}
		if reply := s.ask(buf[:n], who, false); reply != nil {
			// An asker that is gone is no error of ours.
			_, _ = conn.WriteToUDPAddrPort(reply, from)
		}
	}
}

// ask answers one query and records it.
func (s *Server) ask(query []byte, who asker, tcp bool) []byte {
	if len(query) > maxQuery {
		query = nil
	}
	reply, rec := s.answer(query, who, tcp)
	s.record(who, rec)
	return reply
}

func (s *Server) serveTCP(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for {
		conn, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil { // out of descriptors: that passes
			select {
			case <-time.After(acceptPause):
				continue
			case <-ctx.Done():
				return net.ErrClosed
			}
		}
		who := s.tcpAsker(conn)
		if !s.slots.take(who.step) {
			s.record(who, event.DNS{Reason: event.Overload})
			conn.Close()
			continue
		}
		wg.Go(func() {
			defer s.slots.give(who.step)
			defer conn.Close()
			defer context.AfterFunc(ctx, func() { conn.Close() })()
			s.serveConn(conn, who)
		})
	}
}

// serveConn answers the queries of one connection in order until it is idle,
// closed, or says something else than DNS.
func (s *Server) serveConn(conn net.Conn, who asker) {
	idle := s.idle
	if idle == 0 {
		idle = idleTimeout
	}
	buf := make([]byte, 2+maxQuery)
	for {
		if err := conn.SetDeadline(time.Now().Add(idle)); err != nil {
			return
		}
		if _, err := io.ReadFull(conn, buf[:2]); err != nil {
			return
		}
		n := int(binary.BigEndian.Uint16(buf))
		if n < headerLen || n > maxQuery {
			s.record(who, event.DNS{Reason: event.InvalidRequest})
			return
		}
		query := buf[2 : 2+n]
		if _, err := io.ReadFull(conn, query); err != nil {
			s.record(who, event.DNS{Reason: event.InvalidRequest})
			return
		}
		if !s.limiter.allow(who.step, time.Now()) {
			s.record(who, event.DNS{Reason: event.Overload})
			return
		}
		reply := s.ask(query, who, true)
		if reply == nil {
			return
		}
		framed := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(reply)), uint16(len(reply)))
		if _, err := conn.Write(append(framed, reply...)); err != nil {
			return
		}
	}
}

// tcpAsker also knows which resolver was asked: a redirect leaves that on the
// socket. For UDP the firewall's log has it.
func (s *Server) tcpAsker(conn net.Conn) asker {
	from, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return asker{step: UnknownStep}
	}
	who := s.asker(from.Addr())
	if tcp, ok := conn.(*net.TCPConn); ok {
		if orig := original(tcp, from.Addr().Unmap().Is4()); orig.IsValid() && !s.own(orig) {
			who.foreign = orig
		}
	}
	return who
}

// original is the address that the client of a redirected connection dialled;
// the zero Addr when the connection is not tracked.
func original(conn *net.TCPConn, v4 bool) netip.Addr {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.Addr{}
	}
	var addr netip.Addr
	_ = raw.Control(func(fd uintptr) {
		if v4 {
			// The option yields a sockaddr_in; this is a getsockopt of the right size.
			if m, err := unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST); err == nil {
				addr = netip.AddrFrom4([4]byte(m.Multiaddr[4:8]))
			}
		} else if m, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, unix.SO_ORIGINAL_DST); err == nil {
			addr = netip.AddrFrom16(m.Addr.Addr)
		}
	})
	return addr
}
