package supervise

import (
	"context"
	"errors"
	"io"

	"github.com/buildcage/buildcage/internal/cage/asking"
	"github.com/buildcage/buildcage/internal/cage/notice"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// longestAsked bounds each text of a question.
const longestAsked = 512

// ask asks the person whose step it is. A step that several builds have in
// common is nobody's to ask for.
func (p *parts) ask(ctx context.Context, st *step.Step, t policy.Target, ev *event.Conn) (asked, allowed bool) {
	c := p.registry.crew(st.ID)
	if c == nil || p.registry.scope(st.ID) == nil { // the step has ended
		return false, false
	}
	whose := c.only()
	if whose == nil {
		return false, false
	}
	verdict := whose.Asking.Ask(ctx, st.ID, t, func() contract.Question {
		list, rule := policy.Suggest(t)
		escape := func(s string) string { return event.EscapeMax(s, longestAsked) }
		return contract.Question{
			Step: st.ID, Stage: escape(st.Stage), Command: escape(st.Command),
			Process: notice.Process(ev.Process), Secret: len(st.Secrets) > 0, To: escape(t.String()), List: string(list), Rule: escape(rule),
		}
	})
	// Who came meanwhile was not asked.
	return verdict != asking.Unasked, verdict == asking.Allowed && c.only() == whose
}

// only is the one build that a step runs for, nil when there are several.
func (c *crew) only() *tenant.Tenant {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.members) != 1 {
		return nil
	}
	return c.members[0].Tenant
}

// unask denies what a step that has ended still waits for.
func (p *parts) unask(r running) {
	for _, t := range r.crew.tenants() {
		t.Asking.Forget(r.step.ID)
	}
}

// answers serves who answers the questions of a build.
func (p *parts) answers(ctx context.Context, token string, in io.Reader, out io.Writer) error {
	broker := p.house.Asking
	if token != "" {
		l, err := p.doors.find(token)
		if err != nil {
			return err
		}
		broker = l.Asking
	}
	if broker == nil {
		return errors.New("this cage asks registered builds only")
	}
	return broker.Serve(ctx, in, out)
}
