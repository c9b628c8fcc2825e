package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/buildcage/buildcage/internal/cage/asking"
	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/journal"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/policy"
)

// doors are the front doors of registered builds. The zero value is ready.
type doors struct {
	cc   *grpc.ClientConn // to BuildKit
	life context.Context

	mu   sync.Mutex
	open map[string]*lease // by token
}

// lease is a registered build.
type lease struct {
	*tenant.Tenant
	token string
	close func() // its front door, and what came in there
	lost  uint64 // packets that were lost before it came
	seal  sync.Mutex
	done  bool // sealed
}

func (l *lease) record() string { return filepath.Join(contract.RecordsDir, l.token+".jsonl") }

func (d *doors) find(token string) (*lease, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.open[token]; l != nil {
		return l, nil
	}
	return nil, errors.New("no such build is registered")
}

func (d *doors) all() []*lease {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []*lease
	for _, l := range d.open {
		all = append(all, l)
	}
	return all
}

// register lets a build in with a policy and a record of its own. The record
// stays readable until left is called.
func (p *parts) register(r contract.Registration) (_ contract.Lease, left func(), err error) {
	if !p.config.Linger || p.doors.life == nil {
		return contract.Lease{}, nil, errors.New("this cage is not for registered builds")
	}
	if r.Version != contract.BootVersion {
		return contract.Lease{}, nil, &versionError{r.Version}
	}
	compiled, err := policy.Compile(r.Policy)
	if err != nil {
		return contract.Lease{}, nil, err
	}
	l := &lease{Tenant: &tenant.Tenant{ID: r.RunID, Policy: compiled, Trace: tenant.NewTrace(), Asking: new(asking.Broker)}, token: tenant.NewTrace()}
	p.sealing.Lock() // not while the cage goes down
	defer p.sealing.Unlock()
	if p.sealed.Load() {
		return contract.Lease{}, nil, errors.New("the cage is going down")
	}
	if err := p.admit(l, r.CLI); err != nil {
		return contract.Lease{}, nil, err
	}
	idle := p.activity.enter()
	return contract.Lease{Token: l.token, BuildKit: p.cage.buildkit}, func() {
		defer idle()
		if err := p.dismiss(context.Background(), l, errClientGone.Error()); err != nil {
			p.log.Warn("ending a build", "error", err)
		}
		p.doors.mu.Lock()
		delete(p.doors.open, l.token)
		p.doors.mu.Unlock()
		if err := os.Remove(l.record()); err != nil {
			p.log.Warn("removing the record of a build", "error", err)
		}
	}, nil
}

// admit opens the record and the front door of a build.
func (p *parts) admit(l *lease, cli string) error {
	if counts, err := p.firewall.Counts(); err == nil {
		l.lost = counts.Logged() - min(counts.Logged(), p.packets.Received()) + counts.Flooded
	}
	if err := p.openRecord(p.doors.life, l.Tenant, journal.New, l.record(), cli); err != nil {
		return err
	}
	listener, err := control.Listen(filepath.Join(contract.BuildsDir, l.token+".sock"))
	if err != nil {
		return errors.Join(err, l.Journal.Seal("failed"), os.Remove(l.record()))
	}
	if err := p.tenants.Add(l.Tenant); err != nil {
		return errors.Join(err, listener.Close(), l.Journal.Seal("failed"), os.Remove(l.record()))
	}
	ctx, stop := context.WithCancel(p.doors.life)
	served := make(chan struct{})
	door := p.door(l.Tenant)
	go func() {
		defer close(served)
		p.watch(ctx, "api of a build", func() error { return door.Serve(ctx, listener) })
	}()
	l.close = func() { stop(); <-served }
	p.doors.mu.Lock()
	defer p.doors.mu.Unlock()
	if p.doors.open == nil {
		p.doors.open = make(map[string]*lease)
	}
	p.doors.open[l.token] = l
	return nil
}

// goGrace is how long the steps of a build that ends may take to go.
const goGrace = 10 * time.Second

// dismiss ends a build: nothing more comes in, BuildKit ends what only this
// build wanted, and the record gets its end. It is idempotent.
func (p *parts) dismiss(ctx context.Context, l *lease, reason string) error {
	l.seal.Lock()
	defer l.seal.Unlock()
	if l.done {
		return nil
	}
	l.done = true
	ctx, cancel := context.WithTimeout(ctx, goGrace)
	defer cancel()
	l.close()
	p.vertices.watching.wait(ctx, l.Tenant)
	if !p.clear(ctx, l.Tenant) {
		reason = "failed: a step goes on after its build"
	}
	p.vertices.ending.wait(ctx, nil)
	p.tenants.Remove(l.Tenant)
	if counts, err := p.firewall.Counts(); err == nil {
		lost := p.packets.Settle(ctx, counts.Logged(), settleGrace) + counts.Flooded
		l.Journal.Lost(int64(lost - min(lost, l.lost)))
	}
	p.outlasting(ctx, l.Tenant)
	return l.Journal.Seal(reason)
}

// clear waits until no step runs for a tenant, but not for those that others
// want, too. It reports false when ctx ended before: what goes on then is no
// step any more, to whom nothing is allowed.
func (p *parts) clear(ctx context.Context, t *tenant.Tenant) bool {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		var alone []*step.Step
		for _, c := range p.registry.going() {
			members := c.tenants()
			switch {
			case !slices.Contains(members, t):
			case len(members) > 1:
				c.leave(t)
			default:
				alone = append(alone, c.step)
			}
		}
		if alone == nil {
			return true
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.disown(alone)
			return false
		}
	}
}

// disown cuts off steps whose record ends before they do.
func (p *parts) disown(steps []*step.Step) {
	ctx, cancel := context.WithTimeout(context.Background(), settleLimit)
	defer cancel()
	for _, st := range steps {
		p.steps.Forget(st)
		p.proxy.Cut(st)
		p.proxy.Settle(ctx, st)
	}
}

// evict ends all registered builds, because the cage ends.
func (p *parts) evict(ctx context.Context, reason string) error {
	var mu sync.Mutex
	var all sync.WaitGroup
	var errs []error
	for _, l := range p.doors.all() {
		all.Go(func() {
			err := p.dismiss(ctx, l, reason)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// follow writes the record of a build, or of the cage itself.
func (p *parts) follow(ctx context.Context, token string, from uint64, w io.Writer) error {
	if token == "" {
		return p.house.Journal.Follow(ctx, from, w)
	}
	l, err := p.doors.find(token)
	if err != nil {
		return err
	}
	return l.Journal.Follow(ctx, from, w)
}

// sealBuild ends the record of a build, or the whole cage's.
func (p *parts) sealBuild(ctx context.Context, token string) error {
	if token == "" {
		return p.seal(ctx, sealed)
	}
	l, err := p.doors.find(token)
	if err != nil {
		return err
	}
	reason := sealed
	if p.doors.life.Err() != nil { // it asks because its build broke off, and that did because the cage ends
		reason = endOf(p.doors.life)
	}
	return p.dismiss(context.WithoutCancel(ctx), l, reason)
}

// sealed is the reason of an end that was asked for.
const sealed = "sealed"

// inventory says what goes on.
func (p *parts) inventory() contract.Inventory {
	i := p.activity.inventory()
	i.PolicyDigest, i.Mode, i.BuildKit = p.house.Policy.Digest(), string(p.house.Policy.Mode()), p.cage.buildkit
	return i
}

// emptyRecords forgets the records of builds that an earlier run of this cage had.
func (p *parts) emptyRecords() error {
	if err := errors.Join(os.RemoveAll(contract.RecordsDir), os.MkdirAll(contract.RecordsDir, 0o700)); err != nil {
		return fmt.Errorf("emptying the directory of records: %w", err)
	}
	return nil
}
