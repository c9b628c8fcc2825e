package process

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// errNoSocket says that no process has an open socket for the connection.
var errNoSocket = errors.New("no such socket")

// diag asks the kernel for the sockets of one network namespace: one question
// for one connection, whatever else is open there. See sock_diag(7).
type diag struct{ conn *netlink.Conn }

const (
	sockDiagByFamily = 20 // SOCK_DIAG_BY_FAMILY
	requestSize      = 56 // struct inet_diag_req_v2
	messageSize      = 72 // struct inet_diag_msg
	inodeOffset      = 68
	anyCookie        = 0xffffffff
	tcpListen        = 10 // TCP_LISTEN
)

// dialDiag opens the namespace that ns is a file of; 0: the caller's own.
func dialDiag(ns int) (*diag, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{NetNS: ns})
	if err != nil {
		return nil, fmt.Errorf("asking for the step's sockets: %w", err)
	}
	return &diag{conn}, nil
}

func (d *diag) close() { _ = d.conn.Close() }

// inode returns the inode of the socket that is connected from local to remote.
func (d *diag) inode(local, remote netip.AddrPort) (uint64, error) {
	replies, err := d.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request},
		Data:   request(local, remote),
	})
	switch {
	case errors.Is(err, unix.ENOENT):
		return 0, errNoSocket
	case err != nil:
		return 0, fmt.Errorf("asking for a socket: %w", err)
	case len(replies) != 1:
		return 0, fmt.Errorf("%d answers about one socket", len(replies))
	}
	return reply(replies[0].Data, local, remote)
}

func request(local, remote netip.AddrPort) []byte {
	b := make([]byte, requestSize)
	b[0], b[1] = unix.AF_INET, unix.IPPROTO_TCP
	if remote.Addr().Unmap().Is6() {
		b[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(b[4:], 1<<32-1) // states: all
	binary.BigEndian.PutUint16(b[8:], local.Port())
	binary.BigEndian.PutUint16(b[10:], remote.Port())
	copy(b[12:], local.Addr().Unmap().AsSlice())
	copy(b[28:], remote.Addr().Unmap().AsSlice())
	binary.NativeEndian.PutUint32(b[48:], anyCookie)
	binary.NativeEndian.PutUint32(b[52:], anyCookie)
	return b
}

// reply reads the answer. Where there is no such connection, the kernel may
// answer with the listener that would get it.
func reply(b []byte, local, remote netip.AddrPort) (uint64, error) {
	if len(b) < messageSize {
		return 0, fmt.Errorf("answer of %d bytes about a socket", len(b))
	}
	if b[1] == tcpListen || end(b, 4, 8) != unmapped(local) || end(b, 6, 24) != unmapped(remote) {
		return 0, errNoSocket
	}
	inode := binary.NativeEndian.Uint32(b[inodeOffset:])
	if inode == 0 { // closed by its last holder; the kernel only finishes it
		return 0, errNoSocket
	}
	return uint64(inode), nil
}

// end is one end of the connection in an answer.
func end(b []byte, port, addr int) netip.AddrPort {
	p := binary.BigEndian.Uint16(b[port:])
	if b[0] == unix.AF_INET6 {
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[addr:addr+16])).Unmap(), p)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[addr:addr+4])), p)
}

func unmapped(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}
