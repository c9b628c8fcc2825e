// Package upstream is the cage's way out: it resolves a name that was judged
// and allowed, checks every address against the guard, and dials exactly an
// address that it checked. Nothing else in the cage opens connections to the
// outside, and nothing calls this package before a decision.
package upstream

import (
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/policy"
)

// NameError means that a name has no address: it does not exist, or no resolver answered.
type NameError struct {
	Name string
	Err  error
}

func (e *NameError) Error() string { return fmt.Sprintf("resolving %q: %v", e.Name, e.Err) }
func (e *NameError) Unwrap() error { return e.Err }

// GuardError means that every address of a name, or a raw address, is one that is never dialled.
type GuardError struct {
	Addr  netip.Addr
	Class policy.Class
}

func (e *GuardError) Error() string { return fmt.Sprintf("address %s is guarded", e.Addr) }

// mark returns a net.Dialer.Control that puts SO_MARK on a socket; nil for 0.
func mark(value int) func(network, address string, c syscall.RawConn) error {
	if value == 0 {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, value)
		}); e != nil {
			return e
		}
		if err != nil {
			return fmt.Errorf("marking socket: %w", err)
		}
		return nil
	}
}
