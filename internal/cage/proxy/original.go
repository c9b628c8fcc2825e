package proxy

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST.
const soOriginalDst = 80

// original asks connection tracking where the client wanted to go. For a
// connection that was not redirected the kernel has no answer (ENOENT).
func original(fd int, remote netip.AddrPort) (addr netip.AddrPort, err error) {
	var errno unix.Errno
	if remote.Addr().Unmap().Is6() {
		addr, errno = original6(uintptr(fd))
	} else {
		addr, errno = original4(uintptr(fd))
	}
	if errno != 0 {
		return netip.AddrPort{}, fmt.Errorf("reading original destination: %w", errno)
	}
	return addr, nil
}

// The port is in network order in both structures.

func original4(fd uintptr) (netip.AddrPort, unix.Errno) {
	var sa unix.RawSockaddrInet4
	if errno := getsockopt(fd, unix.SOL_IP, unsafe.Pointer(&sa), unsafe.Sizeof(sa)); errno != 0 {
		return netip.AddrPort{}, errno
	}
	return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), bigEndian(&sa.Port)), 0
}

func original6(fd uintptr) (netip.AddrPort, unix.Errno) {
	var sa unix.RawSockaddrInet6
	if errno := getsockopt(fd, unix.SOL_IPV6, unsafe.Pointer(&sa), unsafe.Sizeof(sa)); errno != 0 {
		return netip.AddrPort{}, errno
	}
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), bigEndian(&sa.Port)), 0
}

func bigEndian(port *uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(port))[:])
}

func getsockopt(fd uintptr, level int, value unsafe.Pointer, size uintptr) unix.Errno {
	length := uint32(size)
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, fd, uintptr(level), soOriginalDst,
		uintptr(value), uintptr(unsafe.Pointer(&length)), 0)
	return errno
}
