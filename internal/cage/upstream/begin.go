package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Begun is a connection on its way to a checked address.
type Begun struct {
	To netip.AddrPort
	// Socket is being connected, non-blocking and outside of Go's poller, by
	// whoever called. It is valid where Conn is nil.
	Socket int
	Conn   *net.TCPConn // is connected
}

// Begin is Dial for a caller that waits for the connection itself, which saves
// most of what a dial costs. Where a name has several addresses it is Dial:
// they are tried one after the other. eager says that the caller sends something
// as soon as it is connected.
func (d *Dialer) Begin(ctx context.Context, name string, port uint16, eager bool, private func(netip.Addr) bool) (Begun, error) {
	if d.Proxied(name, port) {
		return begun(d.connect(ctx, name, port))
	}
	passed, err := d.passed(ctx, name, private)
	if err != nil {
		return Begun{}, err
	}
	if len(passed) == 1 {
		return d.begin(netip.AddrPortFrom(passed[0], port), eager)
	}
	return begun(d.race(ctx, interleave(passed), port))
}

// begun is a connection that there is already.
func begun(conn *net.TCPConn, err error) (Begun, error) {
	if err != nil {
		return Begun{}, err
	}
	to, _ := conn.RemoteAddr().(*net.TCPAddr)
	if to == nil {
		return Begun{}, errors.Join(errors.New("dialling gave a connection to nowhere"), conn.Close())
	}
	return Begun{To: netip.AddrPortFrom(to.AddrPort().Addr().Unmap(), to.AddrPort().Port()), Conn: conn}, nil
}

// BeginAddr is DialAddr in the same way.
func (d *Dialer) BeginAddr(ctx context.Context, to netip.AddrPort, eager bool) (Begun, error) {
	if _, refused := d.pass([]netip.Addr{to.Addr()}, func(netip.Addr) bool { return true }); refused != nil {
		return Begun{}, refused
	}
	if d.Proxied(to.Addr().String(), to.Port()) {
		return begun(d.connect(ctx, to.Addr().String(), to.Port()))
	}
	return d.begin(to, eager)
}

func (d *Dialer) begin(to netip.AddrPort, eager bool) (Begun, error) {
	family, addr := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Port: int(to.Port())})
	if to.Addr().Is4() {
		addr.(*unix.SockaddrInet4).Addr = to.Addr().As4()
	} else {
		family, addr = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Begun{}, Failed(to, os.NewSyscallError("socket", err))
	}
	err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err == nil && eager { // the last packet of the handshake goes with what follows
		err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}
	if err == nil && d.Mark != 0 {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, d.Mark)
	}
	if err != nil {
		unix.Close(fd)
		return Begun{}, Failed(to, os.NewSyscallError("setsockopt", err))
	}
	if err := unix.Connect(fd, addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return Begun{}, Failed(to, os.NewSyscallError("connect", err))
	}
	return Begun{To: to, Socket: fd}, nil
}

// Connected says what became of a begun socket that has turned writable.
func Connected(to netip.AddrPort, fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	if err != nil {
		return Failed(to, os.NewSyscallError("connect", err))
	}
	return nil
}

// Failed is the error of a dial, in the words of package net.
func Failed(to netip.AddrPort, err error) error { return fmt.Errorf("dial tcp %s: %w", to, err) }
