package battery

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// invariants hold in every case and both modes, whatever its file says:
//
//	uplink  nothing leaves but TCP to addresses that the record says were
//	        dialled, and questions to the resolver;
//	names   the resolver hears only names that the record says were let through,
//	        or refused for what they resolved to;
//	sink    restrict: nothing arrives, unless the file has a line about the sink;
//	        audit: nothing that is not TCP arrives.
func (r *Run) invariants(records []event.Record) (checks int, problems []string) {
	for _, i := range []struct {
		name string
		do   func([]event.Record) []string
	}{{"uplink", r.uplink}, {"names", r.names}, {"sink", r.sink}} {
		if slices.Contains(r.Case.Waive, i.name) {
			continue
		}
		checks++
		for _, p := range i.do(records) {
			problems = append(problems, "invariant "+i.name+": "+p)
		}
	}
	return checks, problems
}

func (r *Run) uplink(records []event.Record) (problems []string) {
	dialled := make(map[netip.AddrPort]bool)
	for _, rec := range records {
		if c := rec.Conn; c != nil && c.Dialled.IsValid() && (c.Verdict != event.Blocked || late(c.Reason)) {
			dialled[netip.AddrPortFrom(c.Dialled.Addr().Unmap(), c.Dialled.Port())] = true
		}
	}
	if r.Traffic.Lost > 0 {
		problems = append(problems, fmt.Sprintf("the capture missed %d frames", r.Traffic.Lost))
	}
	for _, f := range r.Traffic.Uplink {
		resolver := f.Dst.String() == wire.Names && f.Port == 53
		switch {
		case resolver && (f.Proto == "udp" || f.Proto == "tcp"):
		case f.Proto == "tcp" && dialled[netip.AddrPortFrom(f.Dst, f.Port)]:
		case f.Proto == "tcp":
			problems = append(problems, fmt.Sprintf("TCP to %s, which no event says was dialled", netip.AddrPortFrom(f.Dst, f.Port)))
		default:
			problems = append(problems, fmt.Sprintf("%d packets of %s to %s port %d", f.Packets, f.Proto, f.Dst, f.Port))
		}
	}
	return problems
}

// late says that a connection can be refused for this reason when a part of it
// has been passed on: what is wrong stands in the body.
func late(r event.Reason) bool { return r == event.BadRequest || r == event.UploadBudget }

func (r *Run) names(records []event.Record) (problems []string) {
	known := make(map[string]bool)
	for _, rec := range records {
		c := rec.Conn
		if c == nil || c.Verdict == event.Blocked && c.Reason != event.InternalAddress && c.Reason != event.SelfAddress && c.Reason != event.DNSFailed {
			continue
		}
		known[c.Name], known[c.OrigName] = true, true
	}
	for _, q := range r.Traffic.Names.Queries {
		if !known[q.Name] {
			problems = append(problems, fmt.Sprintf("%s %s was asked, and no event lets that name through", q.Type, q.Name))
		}
	}
	return problems
}

func (r *Run) sink([]event.Record) (problems []string) {
	if r.Mode == Restrict {
		for _, e := range r.Lines {
			if e.Kind == "sink" {
				return nil
			}
		}
	}
	for _, f := range r.Traffic.Sink.Flows {
		if r.Mode == Restrict || f.Proto != "tcp" {
			problems = append(problems, fmt.Sprintf("%d packets of %s to %s port %d", f.Packets, f.Proto, f.Dst, f.Port))
		}
	}
	for where, n := range r.Traffic.Sink.Tokens {
		if r.Mode == Restrict {
			problems = append(problems, fmt.Sprintf("the canary arrived %d times: %s", n, where))
		}
	}
	return problems
}

// alive judges the liveness check by what the origin and the record say.
func (r *Run) alive(list []flat) (problems []string) {
	if !r.Case.Live {
		return nil
	}
	var allowed, denied bool
	for i := range list {
		f := &list[i]
		if f.kind != "conn" || !strings.Contains(f.fields["step.command"], liveCommand) {
			continue
		}
		switch {
		case f.fields["name"] == "alive.test" && f.fields["verdict"] == string(event.Allowed):
			allowed = true
		case f.fields["port"] == "443" && f.fields["verdict"] == string(event.Blocked):
			denied = true
		}
	}
	var arrived bool
	for _, a := range r.Traffic.Origin.Arrivals {
		arrived = arrived || a.Kind == "https" && a.Name == "alive.test" && strings.Contains(a.Detail, "/live")
	}
	for _, a := range r.Traffic.Sink.Arrivals {
		if a.Name == "dead.test" {
			problems = append(problems, "liveness: the denied fetch arrived")
		}
	}
	if !arrived || !allowed {
		problems = append(problems, fmt.Sprintf("liveness: the allowed fetch: recorded %v, arrived %v", allowed, arrived))
	}
	if !denied {
		problems = append(problems, "liveness: the denied fetch is not recorded")
	}
	return problems
}
