package supervise

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/nameserver"
	"github.com/buildcage/buildcage/internal/cage/process"
	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/upstream"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// addresses are where the cage listens.
func (p *parts) addresses() []netip.Addr {
	if p.plan.IPv6 {
		return []netip.Addr{contract.Listen4, contract.Listen6}
	}
	return []netip.Addr{contract.Listen4}
}

func (p *parts) own(a netip.Addr) bool {
	a = a.Unmap()
	return a.IsLoopback() || slices.Contains(p.plan.Own, a)
}

// listen runs a part that serves until it is told to stop.
func (p *parts) listen(part string, run func(context.Context) error) {
	p.listeners.Go(func() { p.watch(p.serving, part, func() error { return run(p.serving) }) })
}

func (p *parts) serveNames(context.Context, context.Context) (down, error) {
	ours := &nameserver.Server{Pool: &p.pool, Steps: &p.steps, Record: p.record, IPv6: p.plan.IPv6, Own: p.own}
	// What comes in here was logged on its way; see packet.
	foreign := &nameserver.Server{Pool: &p.pool, Steps: &p.steps, Record: func(event.Record) {}, IPv6: p.plan.IPv6, Own: p.own}
	for _, a := range p.addresses() {
		tcp, err := proxy.Listen(p.serving, netip.AddrPortFrom(a, contract.NameserverPort))
		if err != nil {
			return nil, err
		}
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, contract.NameserverPort)))
		if err != nil {
			return nil, err
		}
		p.listen("nameserver", func(ctx context.Context) error { return ours.Serve(ctx, udp, tcp) })
		other, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, foreignPort)))
		if err != nil {
			return nil, err
		}
		p.listen("nameserver", func(ctx context.Context) error { return foreign.Serve(ctx, other, nil) })
	}
	return nil, nil
}

func (p *parts) serveProxy(context.Context, context.Context) (down, error) {
	resolver := &upstream.Resolver{Servers: p.resolvers, Mark: contract.ProxyMark}
	guard := policy.NewGuard(slices.Concat(p.plan.Guard(), p.config.Guard, []netip.Prefix{
		contract.FakeNet4, contract.FakeNet6, contract.StepNet4, contract.StepNet6,
	}))
	var via *upstream.Via
	if other := p.config.Proxy; other != nil {
		var err error
		if via, err = upstream.NewVia(other.URL, other.NoProxy); err != nil {
			return nil, err
		}
	}
	finder, err := process.New(p.log)
	if err != nil {
		return nil, err
	}
	p.finder = finder
	closeFinder := func(context.Context) error {
		finder.Close()
		return nil
	}
	p.proxy = &proxy.Server{
		Steps: &p.steps, Process: finder.Find, Builder: p.builder,
		Own: p.own, NameOf: p.pool.Name, Record: p.record, Logger: p.log, Ask: p.ask,
		Dialer: &upstream.Dialer{Lookup: resolver.Lookup, Check: guard.Check, Mark: contract.ProxyMark, Via: via},
	}
	var listeners []net.Listener
	for _, a := range p.addresses() {
		l, err := proxy.Listen(p.serving, netip.AddrPortFrom(a, contract.ProxyPort))
		if err != nil {
			return closeFinder, err
		}
		listeners = append(listeners, l)
	}
	p.listen("proxy", func(ctx context.Context) error { return p.proxy.Serve(ctx, listeners...) })
	return closeFinder, nil
}

// followGrace is how long the readers of the record have to see its end.
const followGrace = 500 * time.Millisecond

func (p *parts) serveControl(_, life context.Context) (down, error) {
	l, err := control.Listen(contract.ControlSocket)
	if err != nil {
		return nil, err
	}
	server := &control.Server{
		StepStart: p.stepStart, StepExit: p.stepExit, StepLines: p.notices.Lines,
		Follow: p.follow, Seal: p.sealBuild, Register: p.register, Inventory: p.inventory,
		Ask: p.answers,
		Log: p.log,
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(life)) // it outlives the record
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.watch(ctx, "control", func() error { return server.Serve(ctx, l) })
	}()
	return func(down context.Context) error {
		server.Settle(down, followGrace)
		stop()
		<-done
		return nil
	}, nil
}
