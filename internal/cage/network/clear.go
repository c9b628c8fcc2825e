package network

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// sock_diag(7): struct inet_diag_req_v2, struct inet_diag_msg.
const (
	sockDiagByFamily = 20
	sockDestroy      = 21
	requestSize      = 56
	requestID        = 8 // where the socket's id begins
	messageID        = 4
	idSize           = 48
)

// Clear ends what the kernel still keeps of TCP connections in the network
// namespace at path when all its processes are gone, TIME_WAIT above all: the
// next step that gets the namespace would see where this one was connected to.
// It works where the kernel can (CONFIG_INET_DIAG_DESTROY).
func Clear(path string) error {
	ns, err := netns.GetFromPath(path)
	if err != nil {
		return fmt.Errorf("opening the step's network namespace: %w", err)
	}
	defer ns.Close()
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{NetNS: int(ns)})
	if err != nil {
		return fmt.Errorf("asking for the step's sockets: %w", err)
	}
	defer conn.Close()
	var errs []error
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		list, err := conn.Execute(diagnose(sockDiagByFamily, netlink.Request|netlink.Dump, family, nil))
		if err != nil {
			errs = append(errs, fmt.Errorf("listing the step's sockets: %w", err))
			continue
		}
		for _, m := range list {
			if len(m.Data) < messageID+idSize {
				continue
			}
			_, err := conn.Execute(diagnose(sockDestroy, netlink.Request|netlink.Acknowledge, family, m.Data[messageID:messageID+idSize]))
			if err != nil && !errors.Is(err, unix.ENOENT) { // gone by itself
				errs = append(errs, fmt.Errorf("ending a socket of the step: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}

// diagnose is a request about the TCP sockets of a family, or about one.
func diagnose(typ netlink.HeaderType, flags netlink.HeaderFlags, family byte, id []byte) netlink.Message {
	b := make([]byte, requestSize)
	b[0], b[1] = family, unix.IPPROTO_TCP
	for i := 4; i < requestID; i++ {
		b[i] = 0xff // all states
	}
	copy(b[requestID:], id)
	return netlink.Message{Header: netlink.Header{Type: typ, Flags: flags}, Data: b}
}
