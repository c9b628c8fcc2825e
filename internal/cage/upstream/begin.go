package upstream

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"unsafe"

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
	family := unix.AF_INET
	if !to.Addr().Is4() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return Begun{}, Failed(to, os.NewSyscallError("socket", err))
	}
	errno := set(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if errno == 0 && eager { // the last packet of the handshake goes with what follows
		errno = set(fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 0)
	}
	if errno == 0 && d.Mark != 0 {
		errno = set(fd, unix.SOL_SOCKET, unix.SO_MARK, int32(d.Mark))
	}
	if errno != 0 {
		unix.Close(fd)
		return Begun{}, Failed(to, os.NewSyscallError("setsockopt", errno))
	}
	if errno := connect(fd, to); errno != 0 && errno != unix.EINPROGRESS {
		unix.Close(fd)
		return Begun{}, Failed(to, os.NewSyscallError("connect", errno))
	}
	return Begun{To: to, Socket: fd}, nil
}

// The calls of one dial. None of them waits, so Go's scheduler is not told.

func set(fd, level, name int, value int32) unix.Errno {
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name),
		uintptr(unsafe.Pointer(&value)), unsafe.Sizeof(value), 0)
	return errno
}

func connect(fd int, to netip.AddrPort) (errno unix.Errno) {
	if to.Addr().Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: to.Addr().As4()}
		binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], to.Port())
		_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
		return errno
	}
	sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: to.Addr().As16()}
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:], to.Port())
	_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unsafe.Sizeof(sa))
	return errno
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
