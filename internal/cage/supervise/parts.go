package supervise

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/firewall"
	"github.com/buildcage/buildcage/internal/cage/journal"
	"github.com/buildcage/buildcage/internal/cage/nameserver"
	"github.com/buildcage/buildcage/internal/cage/network"
	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/upstream"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// foreignPort is where the firewall redirects questions to other resolvers.
const foreignPort = contract.NameserverPort + 1

// parts is a cage that is being built up.
type parts struct {
	*cage
	config    contract.Boot
	policy    *policy.Policy
	resolvers []netip.AddrPort
	plan      *network.Plan
	journal   *journal.Journal
	packets   *firewall.Log
	firewall  *firewall.Firewall
	pool      nameserver.Pool
	steps     step.Table
	proxy     *proxy.Server
	children  children

	serving     context.Context // of proxy and nameserver
	stopServing context.CancelFunc
	listeners   sync.WaitGroup
	sealing     sync.Mutex
	sealed      atomic.Bool
	registry    registry
	vertices    vertices
}

// phases is the order in which a cage comes up. Enforcement and the record
// come before anything that could talk.
func phases(c *cage, config contract.Boot) []phase {
	p := &parts{cage: c, config: config}
	return []phase{
		{"policy", p.compile},
		{"reaper", p.reap},
		{"files", p.files},
		{"network", p.network},
		{"journal", p.openJournal},
		{"firewall", p.closeNetwork},
		{"nameserver", p.serveNames},
		{"proxy", p.serveProxy},
		{"control", p.serveControl},
		{"record", p.keepRecord},
		{"spans", p.receiveSpans},
		{"buildkit", p.runBuildKit},
		{"api", p.serveAPI},
	}
}

type down = func(context.Context) error

func (p *parts) compile(context.Context, context.Context) (down, error) {
	compiled, err := policy.Compile(p.config.Policy)
	p.policy = compiled
	return nil, err
}

func (p *parts) reap(_, life context.Context) (down, error) {
	if unix.Getpid() == 1 {
		p.children.reap(context.WithoutCancel(life)) // to the very end
	}
	return nil, nil
}

func (p *parts) network(context.Context, context.Context) (_ down, err error) {
	if p.plan, err = network.Setup(); err != nil {
		return nil, err
	}
	if !p.plan.IPv6 {
		p.log.Warn("the cage has no IPv6", "reason", p.plan.NoIPv6)
	}
	return nil, nil
}

func (p *parts) openJournal(_, life context.Context) (_ down, err error) {
	if p.journal, err = journal.New(contract.JournalFile, journal.Clock{}); err != nil {
		return nil, err
	}
	go func() {
		select {
		case err := <-p.journal.Failed():
			p.fail("journal", err)
		case <-life.Done():
		}
	}()
	p.journal.Add(event.Record{Kind: event.KindStart, Start: &event.Start{
		Version: event.Version, RunID: p.config.RunID, Mode: string(p.policy.Mode()),
		PolicyDigest: p.policy.Digest(), Versions: p.versions(),
	}})
	return nil, nil
}

func (p *parts) versions() map[string]string {
	v := map[string]string{"cli": p.config.CLI}
	if info, ok := debug.ReadBuildInfo(); ok {
		v["caged"], v["go"] = info.Main.Version, info.GoVersion
	}
	var uts unix.Utsname
	if unix.Uname(&uts) == nil {
		v["kernel"] = unix.ByteSliceToString(uts.Release[:])
	}
	return v
}

func (p *parts) closeNetwork(_, life context.Context) (_ down, err error) {
	if err := firewall.Supported(); err != nil {
		return nil, err
	}
	if p.packets, err = firewall.OpenLog(contract.NFLogGroup, p.packet); err != nil {
		return nil, &firewall.UnsupportedError{Err: err}
	}
	closeLog := func(context.Context) error { return p.packets.Close() }
	p.firewall, err = firewall.Install(firewall.Config{
		Uplinks:  p.plan.Uplinks,
		StepNet4: contract.StepNet4, StepNet6: contract.StepNet6,
		FakeNet4: contract.FakeNet4, FakeNet6: contract.FakeNet6,
		Listen4: contract.Listen4, Listen6: contract.Listen6,
		ProxyPort: contract.ProxyPort, DNSPort: contract.NameserverPort, ForeignPort: foreignPort,
		Mark: contract.ProxyMark, LogGroup: contract.NFLogGroup,
		EngineDNS: slices.ContainsFunc(p.resolvers, func(r netip.AddrPort) bool { return r.Addr().IsLoopback() }),
	})
	if err != nil {
		return closeLog, err
	}
	go func() {
		select {
		case err := <-p.packets.Failed():
			p.fail("packet log", err)
		case <-life.Done():
		}
	}()
	p.serving, p.stopServing = context.WithCancel(life)
	return closeLog, nil
}

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
	ours := &nameserver.Server{Pool: &p.pool, Steps: &p.steps, Record: p.journal.Add, IPv6: p.plan.IPv6, Own: p.own}
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
	p.proxy = &proxy.Server{
		Policy: p.policy, Steps: &p.steps,
		Builder: &step.Step{
			Step:  event.Step{ID: event.BuilderStep},
			Scope: p.policy.For(policy.Step{Builder: true}),
		},
		Own: p.own, NameOf: p.pool.Name, Record: p.journal.Add, Logger: p.log,
		Dialer: &upstream.Dialer{Lookup: resolver.Lookup, Check: guard.Check, Mark: contract.ProxyMark},
	}
	var listeners []net.Listener
	for _, a := range p.addresses() {
		l, err := proxy.Listen(p.serving, netip.AddrPortFrom(a, contract.ProxyPort))
		if err != nil {
			return nil, err
		}
		listeners = append(listeners, l)
	}
	p.listen("proxy", func(ctx context.Context) error { return p.proxy.Serve(ctx, listeners...) })
	return nil, nil
}

// followGrace is how long the readers of the record have to see its end.
const followGrace = 500 * time.Millisecond

func (p *parts) serveControl(_, life context.Context) (down, error) {
	l, err := control.Listen(contract.ControlSocket)
	if err != nil {
		return nil, err
	}
	server := &control.Server{
		StepStart: p.stepStart, StepExit: p.stepExit,
		Follow: p.journal.Follow,
		Seal:   func(ctx context.Context) error { return p.seal(ctx, "sealed") },
		Log:    p.log,
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

// keepRecord seals the record on the way down, while it can still be read.
func (p *parts) keepRecord(_, life context.Context) (down, error) {
	return func(ctx context.Context) error {
		cause := context.Cause(life)
		reason := cause.Error()
		if !orderly(cause) {
			reason = "failed: " + oneLine(reason)
		}
		return p.seal(ctx, reason)
	}, nil
}

const (
	drainGrace  = 2 * time.Second
	settleGrace = 500 * time.Millisecond
)

// seal lets nothing more happen and ends the record. It is idempotent.
func (p *parts) seal(ctx context.Context, reason string) error {
	p.sealing.Lock()
	defer p.sealing.Unlock()
	if p.sealed.Swap(true) {
		return nil
	}
	p.stopServing()
	p.listeners.Wait()
	drain, cancel := context.WithTimeout(ctx, drainGrace)
	defer cancel()
	p.proxy.Drain(drain)
	p.vertices.late.Wait() // each waits for spanLimit at most
	counts, err := p.firewall.Counts()
	if err == nil {
		if lost := p.packets.Settle(ctx, counts.Logged(), settleGrace); lost > 0 {
			p.journal.Lost(int64(lost))
		}
	} else {
		reason, err = "failed: "+oneLine(err.Error()), fmt.Errorf("ending the record: %w", err)
	}
	return errors.Join(err, p.journal.Seal(reason))
}
