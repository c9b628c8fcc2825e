package arena

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/bench/load"
	"github.com/buildcage/buildcage/internal/contract"
)

// Measured is what a task gave and what the proxy used for it.
type Measured struct {
	load.Result
	Processor time.Duration
}

// Run does a task through the gate.
func (g *Gate) Run(ctx context.Context, t load.Task) (m Measured, err error) {
	var before, after time.Duration
	if g.Process != nil {
		if before, err = g.Processor(); err != nil {
			return m, err
		}
	}
	p, err := g.begin(ctx, g.client, t)
	if err != nil {
		return m, err
	}
	if m.Result, err = p.result(); err != nil {
		return m, errors.Join(err, p.stop())
	}
	if g.Process != nil {
		if after, err = g.Processor(); err != nil {
			return m, err
		}
	}
	m.Processor = after - before
	if m.Failed > 0 && m.Failed*100 >= m.Count {
		err = fmt.Errorf("%s: %d of %d failed: %s", t.Kind, m.Failed, m.Failed+m.Count, m.Error)
	}
	return m, errors.Join(err, p.stop())
}

// begin starts a client in a step's namespace.
func (g *Gate) begin(ctx context.Context, s *space, t load.Task) (*Process, error) {
	t.Name = Name
	switch {
	case g == g.arena.Cage:
		t.Resolver = netip.AddrPortFrom(contract.Listen4, contract.NameserverPort)
	case t.Kind == "first":
		t.Resolver = netip.AddrPortFrom(netip.MustParseAddr("10.202.0.1"), 53)
	case g == g.arena.HAProxy:
		t.To = Redirected
	default:
		t.To = Origin
	}
	text, err := t.Text()
	if err != nil {
		return nil, err
	}
	return g.arena.start(ctx, s, g.arena.loads(), g.arena.program, "client", text)
}

func (p *Process) result() (r load.Result, err error) {
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		_ = p.stop()
		return r, fmt.Errorf("waiting for a client: %w: %s", err, p.log.String())
	}
	err = json.Unmarshal(line, &r)
	return r, err
}

func openFiles() (int, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("reading the limit on open files: %w", err)
	}
	return int(min(r.Max, 1<<20)), nil
}

// holders is among how many steps open connections are spread: one alone may
// not take all that the cage can have.
const holders = 3

// Hold opens n connections, calls see while they are open, and closes them.
func (g *Gate) Hold(ctx context.Context, n int, see func() error) (err error) {
	for len(g.steps) < holders-1 {
		s, err := g.step(byte(3 + len(g.steps)))
		if err != nil {
			return err
		}
		if g == g.arena.Cage {
			if err := g.register(ctx, s); err != nil {
				return err
			}
		}
		g.steps = append(g.steps, s)
	}
	var running []*Process
	defer func() {
		for _, p := range running {
			err = errors.Join(err, p.stop())
		}
	}()
	for i, s := range append([]*space{g.client}, g.steps...) {
		part := n / holders
		if i == 0 {
			part += n % holders
		}
		p, err := g.begin(ctx, s, load.Task{Kind: "hold", Clients: part, Time: time.Minute})
		if err != nil {
			return err
		}
		running = append(running, p)
		r, err := p.result()
		if err != nil {
			return err
		}
		if r.Count != part {
			return fmt.Errorf("%d of %d connections are open: %s", r.Count, part, r.Error)
		}
	}
	return see()
}

// Connections is how many both proxies can hold open here, up to most.
func Connections(most int) (int, error) {
	files, err := openFiles()
	return min(most, (files-files/10)/2), err
}
