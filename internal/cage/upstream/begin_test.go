package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/policy"
)

func dialerTo(class policy.Class, addrs ...string) *Dialer {
	return &Dialer{
		Lookup: func(context.Context, string) ([]netip.Addr, error) {
			var list []netip.Addr
			for _, a := range addrs {
				list = append(list, netip.MustParseAddr(a))
			}
			return list, nil
		},
		Check: func(netip.Addr) policy.Class { return class },
	}
}

// A begun socket connects like a dialled one, and fails in the same words.
func TestBegin(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
		if err != nil {
			t.Fatal(err)
		}
		to := l.Addr().(*net.TCPAddr).AddrPort()
		d := dialerTo(policy.Public, loopback)
		for _, listening := range []bool{true, false} {
			if !listening {
				l.Close()
			}
			got := begunTo(t, d, to.Port())
			var want error
			if conn, err := net.Dial("tcp", to.String()); err != nil {
				want = err
			} else {
				conn.Close()
			}
			if (got == nil) != listening || got != nil && got.Error() != want.Error() {
				t.Errorf("%s, listening %t: %v, want %v", loopback, listening, got, want)
			}
		}
	}
}

func begunTo(t *testing.T, d *Dialer, port uint16) error {
	t.Helper()
	b, err := d.Begin(t.Context(), "a.example.com", port, true, nil)
	if err != nil {
		return err
	}
	if b.Conn != nil {
		t.Fatal("a single address is not dialled here")
	}
	defer unix.Close(b.Socket)
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(b.Socket), Events: unix.POLLOUT}}, 5000); err != nil {
		t.Fatal(err)
	}
	return Connected(b.To, b.Socket)
}

// Nothing is begun that the guard refuses.
func TestBeginIsGuarded(t *testing.T) {
	d := dialerTo(policy.Forbidden, "192.0.2.1")
	var refused *GuardError
	if _, err := d.Begin(t.Context(), "a.example.com", 1, true, func(netip.Addr) bool { return true }); !errors.As(err, &refused) {
		t.Errorf("by name: %v", err)
	}
	if _, err := d.BeginAddr(t.Context(), netip.MustParseAddrPort("192.0.2.1:1"), false); !errors.As(err, &refused) {
		t.Errorf("by address: %v", err)
	}
	var nothing *NameError
	if _, err := dialerTo(policy.Public).Begin(t.Context(), "a.example.com", 1, false, nil); !errors.As(err, &nothing) {
		t.Errorf("no address: %v", err)
	}
}

// Several addresses are dialled, and the one that answers is named.
func TestBeginSeveral(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := l.Addr().(*net.TCPAddr).AddrPort()
	b, err := dialerTo(policy.Public, "127.0.0.2", "127.0.0.3").Begin(t.Context(), "a.example.com", to.Port(), true, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Conn.Close()
	if b.To != to {
		t.Errorf("%v, want %v", b.To, to)
	}
}
