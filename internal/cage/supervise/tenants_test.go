package supervise

import (
	"context"
	"net/netip"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/event"
)

// A step that does not end with its only build has nobody left who would
// allow it something, and nowhere to be recorded.
func TestClear(t *testing.T) {
	p := &parts{proxy: new(proxy.Server)}
	one, other := &tenant.Tenant{ID: "one"}, &tenant.Tenant{ID: "other"}
	run := func(addr string, members ...*tenant.Tenant) *step.Step {
		s := &step.Step{Step: event.Step{Addrs: []netip.Addr{netip.MustParseAddr(addr)}}}
		c := new(crew)
		for _, m := range members {
			c.members = append(c.members, member{Tenant: m})
		}
		p.registry.add(s, "", c)
		p.steps.Register(s)
		return s
	}
	shared := run("198.19.0.2", one, other)
	if !p.clear(t.Context(), one) {
		t.Error("waited for a step that another build wants")
	}
	alone := run("198.19.0.3", one)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if p.clear(over, one) {
		t.Error("a step that goes on is no reason to fail")
	}
	if p.steps.Lookup(alone.Addrs[0]) != nil {
		t.Error("the step may go on")
	}
	if p.steps.Lookup(shared.Addrs[0]) != shared {
		t.Error("the step of the other build was cut off")
	}
}
