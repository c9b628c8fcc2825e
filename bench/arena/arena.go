// Package arena is where the proxies are compared: network namespaces without
// a way out, in which an origin, the cage and HAProxy run as processes of their
// own. Both proxies see the same thing: a client on a point-to-point link, all
// of whose TCP connections are redirected to them, and the same origin behind
// an uplink of their own.
//
//	client ── gate (cage: caged's own rules; other: one redirect) ── origin
//
// The proxies share one processor, client and origin the other one, so that
// what is measured is the proxy and what it costs is its own.
package arena

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/contract"
)

// Addresses of the arena.
var (
	Origin = netip.MustParseAddr("203.0.113.10")
	// Redirected is an address that exists nowhere: whoever connects to it gets the proxy.
	Redirected = netip.MustParseAddr("198.51.100.1")
)

// Name is what the origin is called, and below which all names are its own.
const Name = "bench.example.com"

// Arena is a set of running processes. Open it in a process of its own, as
// Enter starts one.
type Arena struct {
	Cage, HAProxy, Direct *Gate

	cores   []int // that may be used: first the proxies', then the loads'
	program string
	origin  *space
	dir     string
	undo    []func() error
}

// Gate is one way from a client to the origin.
type Gate struct {
	arena  *Arena
	here   *space // of the proxy
	client *space
	*Process
	steps []*space // further clients' namespaces
}

// Open brings everything up. program is this program, cage the cage without
// BuildKit; files go to dir.
func Open(ctx context.Context, program, cage, dir string) (_ *Arena, err error) {
	a := &Arena{program: program, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Close())
		}
	}()
	if a.cores, err = cores(); err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""), unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount("tmpfs", "/run", "tmpfs", 0, ""), os.MkdirAll(filepath.Dir(contract.ControlSocket), 0o700)); err != nil {
		return nil, fmt.Errorf("preparing the arena: %w", err)
	}
	if a.origin, err = newSpace(); err != nil {
		return nil, err
	}
	if err := a.startOrigin(ctx); err != nil {
		return nil, fmt.Errorf("starting the origin: %w", err)
	}
	for _, g := range []struct {
		name  string
		gate  **Gate
		n     byte
		start func(context.Context, *Gate) error
	}{
		{"cage", &a.Cage, 200, func(ctx context.Context, g *Gate) error { return g.startCage(ctx, cage) }},
		{"haproxy", &a.HAProxy, 201, func(ctx context.Context, g *Gate) error { return g.startHAProxy(ctx) }},
		{"direct", &a.Direct, 202, nil},
	} {
		if *g.gate, err = a.gate(g.n); err != nil {
			return nil, fmt.Errorf("making the network of %s: %w", g.name, err)
		}
		if g.start != nil {
			if err := g.start(ctx, *g.gate); err != nil {
				return nil, fmt.Errorf("starting %s: %w", g.name, err)
			}
		}
	}
	return a, nil
}

// Close ends all processes.
func (a *Arena) Close() error {
	var errs []error
	for i := len(a.undo) - 1; i >= 0; i-- {
		errs = append(errs, a.undo[i]())
	}
	a.undo = nil
	return errors.Join(errs...)
}

func (a *Arena) later(f func() error) { a.undo = append(a.undo, f) }

func (a *Arena) startOrigin(ctx context.Context) error {
	if err := a.origin.do(func() error { return errors.Join(address("lo", Origin.String()+"/32"), frugal()) }); err != nil {
		return err
	}
	p, err := a.start(ctx, a.origin, a.loads(), a.program, "origin", Origin.String())
	if err != nil {
		return err
	}
	return p.expect("ready")
}

// gate makes a namespace that the origin is in reach of: for a proxy, or for a
// client without one.
func (a *Arena) gate(n byte) (_ *Gate, err error) {
	g := &Gate{arena: a}
	if g.here, err = newSpace(); err != nil {
		return nil, err
	}
	up, down := fmt.Sprintf("10.%d.0.2/24", n), fmt.Sprintf("10.%d.0.1/24", n)
	if err := pair(g.here, "up0", []string{up}, a.origin, fmt.Sprintf("gate%d", n), []string{down}); err != nil {
		return nil, err
	}
	gateway, _, _ := strings.Cut(down, "/")
	if err := g.here.do(func() error {
		return errors.Join(netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gateway)}), frugal())
	}); err != nil {
		return nil, err
	}
	g.client = g.here
	return g, nil
}

// step makes the n-th client's network (from 2) on a point-to-point link, as
// the CNI plugin does. The proxy runs already: what was there before it is an uplink.
func (g *Gate) step(n byte) (*space, error) {
	s, err := newSpace()
	if err != nil {
		return nil, err
	}
	base := contract.StepNet4.Addr().As4()
	base[3] = 1
	gateway := netip.AddrFrom4(base)
	base[3] = n
	own := netip.AddrFrom4(base)
	link := fmt.Sprintf("step%d", n)
	if err := pair(g.here, link, []string{gateway.String() + "/32"}, s, "eth0", []string{own.String() + "/32"}); err != nil {
		return nil, err
	}
	if err := g.here.do(func() error { return route(link, own, netip.Addr{}) }); err != nil {
		return nil, err
	}
	return s, s.do(func() error {
		return errors.Join(route("eth0", gateway, netip.Addr{}), route("eth0", netip.Addr{}, gateway), frugal())
	})
}

// nft loads rules in a namespace.
func (s *space) nft(ctx context.Context, rules string) error {
	return s.do(func() error {
		cmd := exec.CommandContext(ctx, "nft", "-f", "-")
		cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("loading rules: %w: %s", err, out)
		}
		return nil
	})
}
