package proxy

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of connections on a relay, and of those on their way there.
// None of them waits, so Go's scheduler is not told of them: it would take one
// that moves a megabyte for one that waits, and wake other threads to look after
// that. They return ready errors and allocate nothing.

// readNow reads from a socket, which takes less as what it is than as a file.
func readNow(fd int, b []byte) (int, error) {
	return call(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
}

// peekNow reads from a socket what stays there to be read.
func peekNow(fd int, b []byte) (int, error) {
	return call(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_PEEK|unix.MSG_DONTWAIT, 0, 0)
}

// acceptNow accepts a connection, and says who it is from.
func acceptNow(listener int) (fd int, from netip.AddrPort, err error) {
	var sa unix.RawSockaddrAny
	size := uint32(unix.SizeofSockaddrAny)
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&size)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	switch sa.Addr.Family {
	case unix.AF_INET:
		a := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sa))
		from = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), bigEndian(&a.Port))
	case unix.AF_INET6:
		a := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sa))
		from = netip.AddrPortFrom(netip.AddrFrom16(a.Addr), bigEndian(&a.Port))
	}
	return int(n), from, nil
}

// sendNow writes to a socket; last says that its end follows, and what is
// written may wait for that.
func sendNow(fd int, b []byte, last bool) (int, error) {
	flags := uintptr(unix.MSG_NOSIGNAL)
	if last {
		flags |= unix.MSG_MORE
	}
	return call(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
}

// spliceNow moves up to size bytes; one of the two is a pipe.
func spliceNow(from, to, size int) (int, error) {
	return call(unix.SYS_SPLICE, from, 0, uintptr(to), 0, uintptr(size), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
}

// polled are the events that there are already.
func polled(epoll int, events []unix.EpollEvent) (int, error) {
	return call(unix.SYS_EPOLL_PWAIT, epoll, uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
}

// watch adds a descriptor, or changes what is watched of it.
func watch(epoll, fd int, again bool, event *unix.EpollEvent) error {
	what := uintptr(unix.EPOLL_CTL_ADD)
	if again {
		what = unix.EPOLL_CTL_MOD
	}
	_, err := call(unix.SYS_EPOLL_CTL, epoll, what, uintptr(fd), uintptr(unsafe.Pointer(event)), 0, 0)
	return err
}

// unwatch takes a descriptor off that lives on under another number.
func unwatch(epoll, fd int) {
	_, _ = call(unix.SYS_EPOLL_CTL, epoll, unix.EPOLL_CTL_DEL, uintptr(fd), 0, 0, 0) // what comes after all is nobody's
}

// shut ends one direction of a socket.
func shut(fd, how int) {
	_, _ = call(unix.SYS_SHUTDOWN, fd, uintptr(how), 0, 0, 0, 0) // the other direction tells what is wrong with it
}

// closeNow closes a descriptor that was not told to linger.
func closeNow(fd int) {
	_, _, _ = unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0) // it is gone in any case
}

// call repeats what a signal interrupted.
//
//go:uintptrescapes
func call(number uintptr, fd int, a, b, c, d, e uintptr) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(number, uintptr(fd), a, b, c, d, e)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, unix.EAGAIN
		default:
			return 0, errno
		}
	}
}
