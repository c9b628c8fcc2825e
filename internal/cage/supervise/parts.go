package supervise

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/asking"
	"github.com/buildcage/buildcage/internal/cage/evidence"
	"github.com/buildcage/buildcage/internal/cage/firewall"
	"github.com/buildcage/buildcage/internal/cage/journal"
	"github.com/buildcage/buildcage/internal/cage/nameserver"
	"github.com/buildcage/buildcage/internal/cage/network"
	"github.com/buildcage/buildcage/internal/cage/notice"
	"github.com/buildcage/buildcage/internal/cage/process"
	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/selftest"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/tenant"
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
	house     *tenant.Tenant // whose policy and record those of the cage are
	tenants   tenant.Table
	activity  activity
	doors     doors
	builders  builders
	resolvers []netip.AddrPort
	plan      *network.Plan
	packets   *firewall.Log
	firewall  *firewall.Firewall
	pool      nameserver.Pool
	steps     step.Table
	proxy     *proxy.Server
	finder    *process.Finder
	children  children

	serving     context.Context // of proxy and nameserver
	stopServing context.CancelFunc
	listeners   sync.WaitGroup
	testing     atomic.Pointer[selftest.Test] // nil but while it runs
	tested      chan struct{}                 // closed when nothing is left of it
	sealing     sync.Mutex
	sealed      atomic.Bool
	registry    registry
	vertices    vertices
	apart       apart
	sources     sources
	turned      turned
	notices     notice.Board
	observer    evidence.Observer
	evidence    *evidence.Store // nil: none is kept
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
		{"evidence", p.openEvidence},
		{"control", p.serveControl},
		{"record", p.keepRecord},
		{"spans", p.receiveSpans},
		{"self-test", p.selfTest},
		{"buildkit", p.runBuildKit},
		{"api", p.serveAPI},
	}
}

type down = func(context.Context) error

func (p *parts) compile(context.Context, context.Context) (down, error) {
	compiled, err := policy.Compile(p.config.Policy)
	p.house = &tenant.Tenant{ID: p.config.RunID, Policy: compiled, Trace: tenant.NewTrace()}
	if !p.config.Linger { // else it is that of clients that nobody knows
		p.house.Asking = new(asking.Broker)
	}
	if err != nil {
		return nil, err
	}
	return nil, p.tenants.Add(p.house)
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

func (p *parts) openJournal(_, life context.Context) (down, error) {
	open := journal.New
	if p.config.Linger { // for weeks, perhaps, and nobody waits for its end
		open = journal.Rolling
	}
	return nil, p.openRecord(life, p.house, open, contract.JournalFile, p.config.CLI)
}

// opener of a journal at a path.
type opener func(path string, clock journal.Clock) (*journal.Journal, error)

// openRecord starts the record of a tenant.
func (p *parts) openRecord(life context.Context, t *tenant.Tenant, open opener, path, cli string) (err error) {
	if t.Journal, err = open(path, journal.Clock{}); err != nil {
		return err
	}
	go func() {
		select {
		case err := <-t.Journal.Failed():
			p.fail("journal", err)
		case <-t.Journal.Closed():
		case <-life.Done():
		}
	}()
	t.Journal.Add(event.Record{Kind: event.KindStart, Start: &event.Start{
		Version: event.Version, RunID: t.ID, Mode: string(t.Policy.Mode()),
		PolicyDigest: t.Policy.Digest(), Versions: p.versions(cli),
	}})
	return nil
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

// keepRecord seals the record on the way down, while it can still be read.
func (p *parts) keepRecord(_, life context.Context) (down, error) {
	return func(ctx context.Context) error {
		return p.seal(ctx, endOf(life))
	}, nil
}

// endOf is the reason of a record that ends because the cage does.
func endOf(life context.Context) string {
	cause := context.Cause(life)
	if !orderly(cause) {
		return "failed: " + oneLine(cause.Error())
	}
	return cause.Error()
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
	err := p.evict(ctx, reason)
	trimmed := p.trim(ctx)
	p.stopServing()
	p.listeners.Wait()
	drain, cancel := context.WithTimeout(ctx, drainGrace)
	defer cancel()
	p.proxy.Drain(drain)
	p.vertices.watching.wait(drain, nil) // a build that is over has told all about its vertices
	p.vertices.late.Wait()               // each waits for spanLimit and settleLimit at most
	counts, countErr := p.firewall.Counts()
	if countErr == nil {
		// Of a flood of questions, the nameserver records what it gets to see.
		if lost := p.packets.Settle(ctx, counts.Logged(), settleGrace) + counts.Flooded; lost > 0 {
			p.house.Journal.Lost(int64(lost))
		}
	} else {
		reason, err = "failed: "+oneLine(countErr.Error()), errors.Join(err, fmt.Errorf("ending the record: %w", countErr))
	}
	<-trimmed
	return errors.Join(err, p.house.Journal.Seal(reason))
}
