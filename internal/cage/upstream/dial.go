package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/buildcage/buildcage/internal/policy"
)

const (
	// DialTimeout bounds a dial over all addresses of a name, without the lookup.
	DialTimeout = 15 * time.Second
	// stagger is how long one address is tried alone (RFC 8305, section 5).
	stagger = 250 * time.Millisecond
	// maxTries is how many addresses of a name are tried.
	maxTries = 8
)

// Lookup resolves a canonical name.
type Lookup func(ctx context.Context, name string) ([]netip.Addr, error)

// Dialer dials what the guard lets pass. Lookup and Check are required.
type Dialer struct {
	Lookup Lookup
	Check  func(netip.Addr) policy.Class
	Mark   int  // SO_MARK on its sockets, 0: none
	Via    *Via // asked to connect instead, nil: nobody
}

// Dial connects to name:port at an address that it has checked. private says
// whether a private address may be dialled. The error is a *NameError when there
// is no address, a *GuardError when there is none that may be dialled, and
// otherwise that of the first dial.
func (d *Dialer) Dial(ctx context.Context, name string, port uint16, private func(netip.Addr) bool) (*net.TCPConn, error) {
	if d.Proxied(name, port) {
		return d.connect(ctx, name, port)
	}
	passed, err := d.passed(ctx, name, private)
	if err != nil {
		return nil, err
	}
	if len(passed) == 1 {
		return d.dial(ctx, netip.AddrPortFrom(passed[0], port))
	}
	return d.race(ctx, interleave(passed), port)
}

// passed resolves a name and returns the addresses that may be dialled, one at least.
func (d *Dialer) passed(ctx context.Context, name string, private func(netip.Addr) bool) ([]netip.Addr, error) {
	addrs, err := d.Lookup(ctx, name)
	if err != nil {
		return nil, err
	}
	passed, refused := d.pass(addrs, private)
	switch {
	case len(passed) > 0:
		return passed, nil
	case refused == nil:
		return nil, &NameError{name, ErrNoAddress}
	}
	return nil, refused
}

// DialAddr connects to a raw address that a rule names or audit lets through.
// A private one needs no further permission.
func (d *Dialer) DialAddr(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	if _, refused := d.pass([]netip.Addr{to.Addr()}, func(netip.Addr) bool { return true }); refused != nil {
		return nil, refused
	}
	if d.Proxied(to.Addr().String(), to.Port()) {
		return d.connect(ctx, to.Addr().String(), to.Port())
	}
	return d.dial(ctx, to)
}

// pass returns the addresses that may be dialled and why the first other one may not.
func (d *Dialer) pass(addrs []netip.Addr, private func(netip.Addr) bool) (passed []netip.Addr, refused error) {
	for _, addr := range addrs {
		addr = addr.Unmap().WithZone("")
		class := d.Check(addr)
		if class == policy.Public || class == policy.Private && private(addr) {
			passed = append(passed, addr)
		} else if refused == nil {
			refused = &GuardError{addr, class}
		}
	}
	return passed, refused
}

func (d *Dialer) dial(ctx context.Context, to netip.AddrPort) (*net.TCPConn, error) {
	// Keep-alive probes cost four system calls a connection; the proxy turns them on when one goes quiet.
	dialer := net.Dialer{Timeout: DialTimeout, KeepAlive: -1, Control: mark(d.Mark)}
	conn, err := dialer.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return nil, errors.Join(fmt.Errorf("dialling gave a %T", conn), conn.Close())
	}
	return tcp, nil
}

type attempt struct {
	conn *net.TCPConn
	err  error
}

// race tries addresses one after the other, the next one when one fails or is slow; the first connection wins.
func (d *Dialer) race(ctx context.Context, addrs []netip.Addr, port uint16) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(ctx, DialTimeout)
	defer cancel()
	addrs = addrs[:min(len(addrs), maxTries)]
	results := make(chan attempt, len(addrs))
	var first error
	for next, open := 0, 0; next < len(addrs) || open > 0; {
		var slow <-chan time.Time
		if next < len(addrs) {
			to := netip.AddrPortFrom(addrs[next], port)
			next, open = next+1, open+1
			go func() {
				conn, err := d.dial(ctx, to)
				results <- attempt{conn, err}
			}()
			slow = time.After(stagger)
		}
		select {
		case <-slow:
		case r := <-results:
			open--
			if r.err == nil {
				go closeLosers(results, open)
				return r.conn, nil
			}
			if first == nil {
				first = r.err
			}
		}
	}
	return nil, first
}

func closeLosers(results <-chan attempt, n int) {
	for range n {
		if r := <-results; r.err == nil {
			r.conn.Close()
		}
	}
}

// interleave alternates the families, beginning with v4: containers often have no v6 route.
func interleave(addrs []netip.Addr) []netip.Addr {
	var v4, v6, out []netip.Addr
	for _, a := range addrs {
		if a.Is4() {
			v4 = append(v4, a)
		} else {
			v6 = append(v6, a)
		}
	}
	for i := range max(len(v4), len(v6)) {
		if i < len(v4) {
			out = append(out, v4[i])
		}
		if i < len(v6) {
			out = append(out, v6[i])
		}
	}
	return out
}
