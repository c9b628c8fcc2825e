package supervise

import (
	"context"
	"fmt"
	"time"

	"github.com/buildcage/buildcage/internal/cage/network"
	"github.com/buildcage/buildcage/internal/cage/selftest"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// selfTest tries everything that the phases before it set up. BuildKit comes
// after it: there is nobody yet who could build. Its network goes away while
// BuildKit starts.
func (p *parts) selfTest(boot, _ context.Context) (down, error) {
	start := time.Now()
	t := &selftest.Test{IPv6: p.plan.IPv6, Register: p.registerSelfTest}
	p.testing.Store(t)
	clean, err := t.Run(boot)
	p.catchUp() // late packets of the test are not of the first step
	t.End()
	p.tested = make(chan struct{})
	go func() {
		defer close(p.tested)
		clean()
		p.catchUp()
		p.testing.Store(nil)
	}()
	if err != nil {
		<-p.tested
		return nil, fmt.Errorf("the cage does not hold: %w", err)
	}
	p.log.Debug("the cage holds", "took", time.Since(start))
	return nil, nil
}

func (p *parts) registerSelfTest(path string) (undo func(), err error) {
	link, err := network.Join(path, p.plan.IPv6)
	if err != nil {
		return nil, err
	}
	s := &step.Step{Step: event.Step{ID: selftest.Step, Addrs: link.Addrs}, NetNS: path, Scope: p.house.Policy.For(policy.Step{})}
	p.steps.Register(s)
	return func() {
		p.steps.Forget(s)
		p.proxy.Forget(s)
	}, nil
}

// ofSelfTest hands what is recorded during the self-test to it: that is no
// business of the record's readers.
func (p *parts) ofSelfTest(r event.Record) bool {
	t := p.testing.Load()
	return t != nil && t.Take(r)
}
