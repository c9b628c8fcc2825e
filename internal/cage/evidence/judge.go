package evidence

import (
	"net/netip"
	"slices"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// FlagCached marks what a cached step did when it ran.
const FlagCached = "cached"

// flagPrivate marks a private address that nothing but audit lets pass.
const flagPrivate = "private"

// Judge says what the policy of today thinks of what a step did, in all of its
// runs: the records that a live step would leave, without step and number.
//
// An audit asks for something else: what the step does when nobody stops it.
// Runs that were all refused something don't tell, and neither do runs that did
// different things: a list must not have what other contents of the context did.
func (e *Evidence) Judge(scope func(Run) *policy.Scope) (records []event.Record, verdict event.EvidenceVerdict) {
	verdict = event.EvidenceClean
	if e.Doubt != "" || len(e.Runs) == 0 {
		verdict = event.EvidenceMissing
	}
	audit, free := false, false
	var compared comparison
	var all observation
	all.index()
	for i := len(e.Runs) - 1; i >= 0; i-- {
		run := e.Runs[i]
		if run.Cut {
			verdict = event.EvidenceMissing
		}
		judging := scope(run)
		audit = judging.Policy().Mode() == policy.Audit
		judged := judgeConns(run.Conns, judging)
		stopped := held(run.Conns, judged)
		free = free || !stopped
		compared.add(judged, stopped)
		for _, c := range judged {
			if _, fresh := at(all.conns, keyOf(&c)); fresh {
				records = append(records, event.Record{Conn: &c})
			}
		}
		for _, d := range run.Drops {
			if _, fresh := at(all.drops, dropKey{d.Protocol, d.Name, d.Dest}); fresh {
				records = append(records, event.Record{Drop: &d})
			}
		}
		for _, d := range run.DNS {
			if _, fresh := at(all.names, nameKey{d.Name, d.Type, d.Reason, d.Foreign}); fresh {
				records = append(records, event.Record{DNS: &d})
			}
		}
	}
	switch {
	case audit && (!free || compared.differ() || verdict == event.EvidenceMissing):
		verdict = event.EvidenceMissing
	case slices.ContainsFunc(records, refused):
		verdict = event.EvidenceViolates
	}
	return records, verdict
}

// comparison finds out whether runs went to different destinations. How a
// connection went, and what a name resolved to, does not matter.
type comparison struct {
	all  map[destination]bool
	runs []map[destination]bool // that nobody stopped
}

type destination struct {
	protocol, name, dialled string
	port                    uint16
}

func (c *comparison) add(conns []event.Conn, stopped bool) {
	if c.all == nil {
		c.all = make(map[destination]bool)
	}
	run := make(map[destination]bool)
	for _, conn := range conns {
		to := destination{conn.Protocol, conn.Name, conn.OrigName, conn.Port}
		if conn.OrigName == "" {
			to.dialled = conn.Orig.Addr().String()
		}
		c.all[to], run[to] = true, true
	}
	if !stopped {
		c.runs = append(c.runs, run)
	}
}

// differ says that one of the runs that nobody stopped lacks what another run did.
func (c *comparison) differ() bool {
	return slices.ContainsFunc(c.runs, func(run map[destination]bool) bool { return len(run) < len(c.all) })
}

// held reports whether a run was refused something that would pass now.
func held(then, now []event.Conn) bool {
	for i := range then {
		if then[i].Verdict == event.Blocked && now[i].Verdict != event.Blocked {
			return true
		}
	}
	return false
}

// refused says that a record would fail a live build.
func refused(r event.Record) bool {
	switch {
	case r.Conn != nil:
		return r.Conn.Verdict == event.Blocked && !r.Conn.Expected
	case r.Drop != nil:
		return !r.Drop.Noise()
	case r.DNS != nil:
		return r.DNS.Reason != ""
	}
	return false
}

func judgeConns(conns []event.Conn, scope *policy.Scope) []event.Conn {
	judged := make([]event.Conn, len(conns))
	var up int64
	most := 0
	for i, c := range conns {
		judged[i] = judgeConn(c, scope)
		judged[i].Flags = append(slices.Clone(judged[i].Flags), FlagCached)
		up = event.Add(up, c.Up)
		if c.Up > conns[most].Up {
			most = i
		}
	}
	if limit := scope.MaxUpload(); limit > 0 && up > limit {
		judged[most].Verdict, judged[most].Reason = event.Blocked, event.UploadBudget
	}
	return judged
}

// Rejudge says what a policy thinks of a connection that another one let pass.
func Rejudge(c event.Conn, scope *policy.Scope) event.Conn { return judgeConn(c, scope) }

// judgeConn follows the order of the proxy.
func judgeConn(c event.Conn, scope *policy.Scope) event.Conn {
	failed := c.Verdict == event.Failed
	lenient := scope.Policy().Mode() == policy.Audit
	if scope.NetworkNone() {
		c.Verdict, c.Reason = event.Blocked, event.NetworkNone
		return c
	}
	if c.Verdict == event.Blocked && structural(&c, scope, lenient) {
		return c
	}
	d := decide(&c, scope)
	private := c.Dialled.Addr()
	if c.Resolved.IsValid() {
		private = c.Resolved
	}
	c.Rule, c.RulePos, c.Expected, c.Reason = d.Rule, d.Pos, d.Expected, event.Reason(d.Reason)
	switch {
	case !d.Allowed:
		c.Verdict = event.Blocked
	case !lenient && slices.Contains(c.Flags, "ech") && !scope.Policy().ECHAllowed():
		c.Verdict, c.Reason = event.Blocked, event.ECHPresent
	case !lenient && private.Unmap().IsPrivate() && !scope.PrivateAllowed(netip.AddrPortFrom(private, c.Port)):
		c.Verdict, c.Reason, c.Resolved = event.Blocked, event.InternalAddress, private
	case failed:
		c.Verdict, c.Reason = event.Failed, event.UpstreamError
	case d.Audited:
		c.Verdict = event.Audited
	default:
		c.Verdict = event.Allowed
	}
	if lenient {
		c.Flags = slices.DeleteFunc(slices.Clone(c.Flags), func(f string) bool { return f == flagPrivate })
		if private.Unmap().IsPrivate() && !scope.PrivateAllowed(netip.AddrPortFrom(private, c.Port)) && c.Protocol != string(policy.IP) {
			c.Flags = append(c.Flags, flagPrivate)
		}
	}
	return c
}

// structural says that a refusal does not depend on rules, or not in a way
// that evidence could tell: it stays one.
func structural(c *event.Conn, scope *policy.Scope, lenient bool) bool {
	switch c.Reason {
	case event.NotAllowed, event.IPNotAllowed, event.NetworkNone, event.UploadBudget:
		return false
	case event.InternalAddress:
		return !c.Resolved.Unmap().IsPrivate() // nothing opens any other
	case event.ECHPresent:
		return !lenient && !scope.Policy().ECHAllowed()
	}
	return true
}

// decide asks the rules in the order of the proxy: address, name for any
// protocol, then what the connection spoke.
func decide(c *event.Conn, scope *policy.Scope) policy.Decision {
	addr := c.Orig.Addr().Unmap()
	raw := c.OrigName == "" && addr.IsValid() && !contract.FakeNet4.Contains(addr) && !contract.FakeNet6.Contains(addr)
	byAddr := policy.Target{Protocol: policy.IP, Addr: addr, Port: c.Port}
	byName := policy.Target{Protocol: policy.TCP, Name: c.OrigName, Port: c.Port}
	if r := scope.Match(byAddr); raw && r != nil {
		return scope.Judge(byAddr)
	}
	if r := scope.Match(byName); c.OrigName != "" && r != nil {
		return scope.Judge(byName)
	}
	switch p := policy.Protocol(c.Protocol); p {
	case policy.IP:
		return scope.Judge(byAddr)
	case policy.TLS, policy.HTTP, policy.TCP:
		return scope.Judge(policy.Target{Protocol: p, Name: c.Name, Port: c.Port})
	}
	var d policy.Decision // it left before it said what it was: any will do
	for _, p := range []policy.Protocol{policy.TLS, policy.HTTP, policy.TCP} {
		if d = scope.Judge(policy.Target{Protocol: p, Name: c.OrigName, Port: c.Port}); d.Allowed {
			break
		}
	}
	return d
}
