package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/policy"
)

// world is a dialer in which 127.0.0.2 and ::1 are public, 127.0.0.3 is private and the rest is guarded.
func world(answer ...string) *Dialer {
	return &Dialer{
		Lookup: func(context.Context, string) ([]netip.Addr, error) { return addrs(answer...), nil },
		Check: func(a netip.Addr) policy.Class {
			switch a.String() {
			case "127.0.0.2", "127.0.0.4", "::1":
				return policy.Public
			case "127.0.0.3":
				return policy.Private
			case "127.0.0.9":
				return policy.Self
			}
			return policy.Forbidden
		},
	}
}

func listen(t *testing.T, addr string) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(addr, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

func never(netip.Addr) bool  { return false }
func always(netip.Addr) bool { return true }

func TestDial(t *testing.T) {
	port := listen(t, "127.0.0.2")
	for title, c := range map[string]struct {
		answer  []string
		private func(netip.Addr) bool
		class   policy.Class
		ok      bool
	}{
		"public":            {[]string{"127.0.0.2"}, never, 0, true},
		"dead first":        {[]string{"127.0.0.4", "127.0.0.2"}, never, 0, true},
		"v6 first":          {[]string{"::1", "127.0.0.2"}, never, 0, true},
		"guarded first":     {[]string{"127.0.0.1", "127.0.0.2"}, never, 0, true},
		"guarded last":      {[]string{"127.0.0.2", "127.0.0.1"}, never, 0, true},
		"guarded":           {[]string{"127.0.0.1"}, always, policy.Forbidden, false},
		"mapped":            {[]string{"::ffff:127.0.0.1"}, always, policy.Forbidden, false},
		"self":              {[]string{"127.0.0.9", "127.0.0.1"}, always, policy.Self, false},
		"private, refused":  {[]string{"127.0.0.3"}, never, policy.Private, false},
		"private, and dead": {[]string{"127.0.0.3", "127.0.0.2"}, always, 0, true},
	} {
		t.Run(title, func(t *testing.T) {
			conn, err := world(c.answer...).Dial(t.Context(), "www.example.com", port, c.private)
			if c.ok {
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				if got := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().String(); got != "127.0.0.2" {
					t.Errorf("dialled %s", got)
				}
				return
			}
			var guard *GuardError
			if !errors.As(err, &guard) || guard.Class != c.class {
				t.Errorf("%v, want class %s", err, c.class)
			}
		})
	}
}

func TestDialFails(t *testing.T) {
	var guard *GuardError
	var name *NameError
	port := listen(t, "127.0.0.5") // nobody at the others
	for _, answer := range [][]string{{"127.0.0.2"}, {"127.0.0.2", "127.0.0.4"}} {
		if _, err := world(answer...).Dial(t.Context(), "x.example.com", port, never); err == nil || errors.As(err, &guard) || errors.As(err, &name) {
			t.Errorf("%v: %v", answer, err)
		}
	}
	if _, err := world().Dial(t.Context(), "x.example.com", port, never); !errors.As(err, &name) {
		t.Errorf("no address: %v", err)
	}
	if _, err := world().DialAddr(t.Context(), netip.MustParseAddrPort("127.0.0.1:1")); !errors.As(err, &guard) {
		t.Errorf("raw guarded: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := world("127.0.0.2", "127.0.0.4").Dial(ctx, "x.example.com", port, never); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestInterleave(t *testing.T) {
	got := interleave(addrs("2001:db8::1", "2001:db8::2", "192.0.2.1", "2001:db8::3"))
	if want := addrs("192.0.2.1", "2001:db8::1", "2001:db8::2", "2001:db8::3"); !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestMark(t *testing.T) {
	d := world("127.0.0.2")
	d.Mark = 0x6263
	conn, err := d.Dial(t.Context(), "x.example.com", listen(t, "127.0.0.2"), never)
	if errors.Is(err, unix.EPERM) {
		t.Skip("needs CAP_NET_ADMIN: run as root")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, _ := conn.SyscallConn()
	raw.Control(func(fd uintptr) {
		if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK); err != nil || got != 0x6263 {
			t.Errorf("mark %#x, %v", got, err)
		}
	})
}
