package selftest

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/contract"
)

// attempt is how long one packet may take to have an effect; all of it happens on
// this machine. A link that just came up may lose the first ones.
const attempt = 200 * time.Millisecond

// own is the cage's address in the family of a.
func own(a netip.Addr) netip.Addr {
	if a.Is4() {
		return contract.Listen4
	}
	return contract.Listen6
}

// again repeats f as long as it times out and there is patience.
func again(f func() error) error {
	for end := time.Now().Add(patience); ; {
		err := f()
		late := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EADDRNOTAVAIL)
		if !late || time.Now().After(end) {
			return err
		}
	}
}

// socket opens one towards a destination, with time-outs.
func socket(to netip.AddrPort, typ int, f func(fd int, sa unix.Sockaddr) error) error {
	family := unix.AF_INET
	var sa unix.Sockaddr
	if to.Addr().Is4() {
		sa = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	} else {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Port: int(to.Port()), Addr: to.Addr().As16()}
	}
	fd, err := unix.Socket(family, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("opening a socket: %w", err)
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(attempt.Nanoseconds())
	for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, opt, &tv); err != nil {
			return fmt.Errorf("setting a time-out: %w", err)
		}
	}
	return f(fd, sa)
}

// connect must get a connection, of the proxy, and nothing on it.
func connect(to netip.AddrPort) error {
	return again(func() error {
		return socket(to, unix.SOCK_STREAM, func(fd int, sa unix.Sockaddr) error {
			switch err := unix.Connect(fd, sa); {
			case errors.Is(err, unix.ECONNRESET):
				return nil // taken, and refused before this side woke up; the record says by whom
			case err != nil:
				return fmt.Errorf("the proxy did not take the connection: %w", err)
			}
			for end := time.Now().Add(patience); ; { // a busy machine is slow to refuse
				n, err := unix.Read(fd, make([]byte, 1))
				switch {
				case n > 0 || errors.Is(err, unix.EAGAIN) && time.Now().After(end):
					return errors.New("the connection was not refused")
				case !errors.Is(err, unix.EAGAIN):
					return nil
				}
			}
		})
	})
}

// send must be refused, and at once.
func send(to netip.AddrPort) error {
	return again(func() error {
		return socket(to, unix.SOCK_DGRAM, func(fd int, sa unix.Sockaddr) error {
			if err := unix.Connect(fd, sa); err != nil {
				return fmt.Errorf("sending: %w", err)
			}
			if _, err := unix.Write(fd, []byte(Name)); err != nil {
				return nil //nolint:nilerr // refused before it was sent
			}
			_, err := unix.Read(fd, make([]byte, 1))
			switch {
			case err == nil:
				return errors.New("the packet was answered")
			case errors.Is(err, unix.EAGAIN):
				return fmt.Errorf("the packet was not refused: %w", err)
			}
			return nil
		})
	})
}

// ask must be answered with an address that stands for the name.
func ask(server netip.AddrPort, family netip.Addr) error {
	typ, net := dns.TypeA, contract.FakeNet4
	if family.Is6() {
		typ, net = dns.TypeAAAA, contract.FakeNet6
	}
	q := new(dns.Msg).SetQuestion(Name+".", typ)
	packed, err := q.Pack()
	if err != nil {
		return fmt.Errorf("packing a question: %w", err)
	}
	return again(func() error {
		return socket(server, unix.SOCK_DGRAM, func(fd int, sa unix.Sockaddr) error {
			if err := unix.Connect(fd, sa); err != nil {
				return fmt.Errorf("asking: %w", err)
			}
			if _, err := unix.Write(fd, packed); err != nil {
				return fmt.Errorf("asking: %w", err)
			}
			buf := make([]byte, 512)
			n, err := unix.Read(fd, buf)
			if err != nil {
				return fmt.Errorf("the nameserver did not answer: %w", err)
			}
			return judge(buf[:n], q.Id, net)
		})
	})
}

func judge(answer []byte, id uint16, net netip.Prefix) error {
	var m dns.Msg
	if err := m.Unpack(answer); err != nil || m.Id != id || len(m.Answer) != 1 {
		return errors.New("the nameserver's answer is not one address")
	}
	var a netip.Addr
	switch rr := m.Answer[0].(type) {
	case *dns.A:
		a, _ = netip.AddrFromSlice(rr.A.To4())
	case *dns.AAAA:
		a, _ = netip.AddrFromSlice(rr.AAAA)
	}
	if !net.Contains(a) {
		return fmt.Errorf("the nameserver's answer is %s, which stands for no name", a)
	}
	return nil
}
