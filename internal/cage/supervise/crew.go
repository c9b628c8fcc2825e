package supervise

import (
	"slices"
	"strings"
	"sync"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/evidence"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/cage/vertex"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// crew are the tenants that a step runs for. Most steps have one. One that
// builds of several have in common may do what all of them allow, and what it
// does stands in the record of each.
type crew struct {
	start control.Start
	step  *step.Step
	// loose: no instruction that was heard of fits the command; it may be any that runs.
	loose bool

	mu      sync.Mutex
	begun   bool
	members []member
	digests map[string]bool // vertices that it may be
}

type member struct {
	*tenant.Tenant
	who   policy.Step
	scope *policy.Scope
	up    int64 // bytes that its record has of the step since it is shared, and before where it joined
}

// flagShared is on what a step did that several builds have in common.
const flagShared = "shared"

func newMember(t *tenant.Tenant, who policy.Step) member {
	return member{Tenant: t, who: who, scope: t.Policy.For(who)}
}

// may reports whether the step may be that of a vertex.
func (c *crew) may(v vertex.Vertex) bool {
	if likenessOf(v, c.start.Command) != unlike {
		return true
	}
	_, run := vertex.ParseName(v.Name).Run()
	return c.loose && run && !v.Started.IsZero()
}

// has reports whether t is a member. The lock is held.
func (c *crew) has(t *tenant.Tenant) bool {
	return slices.ContainsFunc(c.members, func(m member) bool { return m.Tenant == t })
}

// scope is what all members allow.
func (c *crew) scope() *policy.Scope {
	scopes := make([]*policy.Scope, len(c.members))
	for i, m := range c.members {
		scopes[i] = m.scope
	}
	return policy.Intersect(scopes...)
}

// stage is that of the step, as far as its members agree.
func (c *crew) stage() string {
	stage := c.members[0].who.Stage
	for _, m := range c.members {
		if m.who.Stage != stage {
			return ""
		}
	}
	return stage
}

// stepRecord is what a journal takes of a step: policies select by its command
// as it is, and the record has it escaped, so that it can be read back.
func stepRecord(s event.Step) event.Record {
	s.Command = event.EscapeMax(s.Command, event.MaxRecord)
	return event.Record{Kind: event.KindStep, Step: &s}
}

// begin records the beginning of the step.
func (c *crew) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.begun = true
	for _, m := range c.members {
		m.Journal.Add(stepRecord(c.step.Step))
	}
}

// join adds a tenant to a running step: it can do from now on only what the
// newcomer allows, too. What it has done stands in the newcomer's record as the
// newcomer's policy judges it.
func (c *crew) join(t *tenant.Tenant, who policy.Step, sofar func() evidence.Run) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.has(t) {
		return
	}
	c.members = append(c.members, newMember(t, who))
	m := &c.members[len(c.members)-1]
	c.step.Narrow(c.scope())
	if !c.begun {
		return
	}
	m.Journal.Add(stepRecord(c.step.Step))
	for _, r := range m.past(sofar()) {
		m.Journal.Add(ofStep(r, c.step.ID))
	}
}

// past is what a step did before a member joined.
func (m *member) past(run evidence.Run) (records []event.Record) {
	for i := range run.Conns {
		records = append(records, m.view(event.Record{Conn: &run.Conns[i]}))
	}
	for i := range run.Drops {
		records = append(records, event.Record{Drop: &run.Drops[i]})
	}
	for i := range run.DNS {
		records = append(records, event.Record{DNS: &run.DNS[i]})
	}
	return records
}

// leave lets a tenant go whose record ends.
func (c *crew) leave(t *tenant.Tenant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members = slices.DeleteFunc(slices.Clone(c.members), func(m member) bool { return m.Tenant == t })
}

// tell records what the step did, and hands it on under the same lock: who
// joins has it either from there or from here.
func (c *crew) tell(r event.Record, see func(event.Record)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	see(r)
	for i := range c.members {
		m := &c.members[i]
		if len(c.members) > 1 {
			m.Journal.Add(m.view(r))
			continue
		}
		m.Journal.Add(r)
	}
}

// view is what a shared step did, with the verdict of one of its members.
func (m *member) view(r event.Record) event.Record {
	if r.Conn == nil {
		return r
	}
	did := *r.Conn
	did.Flags = append(slices.Clone(did.Flags), flagShared)
	judged := evidence.Rejudge(did, m.scope)
	if did.Verdict == event.Failed && judged.Verdict == event.Failed {
		judged.Reason = did.Reason
	}
	if did.Verdict == event.Blocked && judged.Verdict != event.Blocked {
		did.Expected, did.Rule, did.RulePos = false, "", ""
		did.Detail = "another build that has this step in common does not allow it"
		judged = did
	}
	m.up = event.Add(m.up, did.Up)
	if limit := m.scope.MaxUpload(); limit > 0 && m.up > limit && judged.Verdict != event.Blocked { // it may have been sent before there was a limit
		judged.Verdict, judged.Reason = event.Blocked, event.UploadBudget
	}
	r.Conn = &judged
	return r
}

// end records the end of the step with the vertex that it was in each build.
func (c *crew) end(s event.Step, found []vertex.Vertex, of func(ref string) *tenant.Tenant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		own := s
		for _, v := range found {
			if t := of(v.Build); t == m.Tenant || own.Vertex == "" {
				describe(&own, v)
				if t != m.Tenant {
					own.Build = ""
				}
			}
		}
		m.Journal.Add(stepRecord(own))
	}
}

// digest is that of the policy that the step runs under, all of them where it
// is shared.
func (c *crew) digest() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []string
	for _, m := range c.members {
		if d := m.Policy.Digest(); !slices.Contains(all, d) {
			all = append(all, d)
		}
	}
	return strings.Join(all, " ")
}

func (c *crew) tenants() []*tenant.Tenant {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make([]*tenant.Tenant, len(c.members))
	for i, m := range c.members {
		all[i] = m.Tenant
	}
	return all
}

// ofStep gives a record of evidence the step that it is about.
func ofStep(r event.Record, id string) event.Record {
	switch {
	case r.Conn != nil:
		r.Kind, r.Conn.Step = event.KindConn, id
	case r.Drop != nil:
		r.Kind, r.Drop.Step = event.KindDrop, id
	case r.DNS != nil:
		r.Kind, r.DNS.Step = event.KindDNS, id
	}
	return r
}
