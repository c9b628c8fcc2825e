package supervise

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"time"

	"github.com/buildcage/buildcage/internal/cage/evidence"
	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/cage/vertex"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

const (
	// lateGrace is how long an address stays with a step that has ended: what
	// it sent last may still wait to be accepted. The next owner replaces it.
	lateGrace = time.Second
	// settleLimit is how long the evidence of a step waits for its last connections.
	settleLimit = 2 * time.Second
)

// openEvidence finds what earlier cages learned about steps that are in the
// cache now.
func (p *parts) openEvidence(context.Context, context.Context) (_ down, err error) {
	if err := p.emptyRecords(); err != nil {
		return nil, err
	}
	p.evidence, err = evidence.Open(filepath.Join(contract.StateDir, contract.EvidenceDir))
	return nil, err
}

// observe begins to gather evidence of a step.
func (p *parts) observe(id, command string) error {
	p.observer.Begin(id)
	if p.evidence == nil {
		return nil
	}
	return p.evidence.Begin(p.config.RunID, id, command)
}

// keep stores what a step did. found are the vertices that it ran for. Without
// them, and after an error, the mark of its beginning stays.
func (p *parts) keep(r running, code int, found []vertex.Vertex) {
	ctx, cancel := context.WithTimeout(context.Background(), settleLimit)
	defer cancel()
	settled := p.proxy.Settle(ctx, r.step)
	run := p.observer.End(r.step.ID)
	if p.evidence == nil {
		return
	}
	run.At, run.PolicyDigest = time.Now().UTC(), r.crew.digest()
	run.Command, run.Secrets, run.Cut = r.step.Command, len(r.step.Secrets) > 0 || secretEnv(found), run.Cut || !settled
	var err error
	switch {
	case code != 0: // no result, and nothing to answer for
	case len(found) == 0:
		err = errors.New("the step has no vertex")
	default:
		kept := make(map[string]bool)
		for _, v := range found {
			if key := p.vertices.table.Identity(v); !kept[key] {
				kept[key] = true
				err = errors.Join(err, p.evidence.Keep(key, event.EscapeMax(v.Name, 200), run))
			}
		}
	}
	if err == nil {
		err = p.evidence.Done(p.config.RunID, r.step.ID)
	}
	if err != nil {
		p.log.Warn("evidence of a step is lost", "step", r.step.ID, "error", err)
		p.evidence.Lose(r.step.Command)
	}
}

func secretEnv(found []vertex.Vertex) bool {
	return slices.ContainsFunc(found, func(v vertex.Vertex) bool { return len(vertex.ParseName(v.Name).SecretEnv()) > 0 })
}

// cached records a step that the cache answered, and what it did when it ran,
// as today's policy judges it.
func (p *parts) cached(t *tenant.Tenant, v vertex.Vertex, command, identity string) {
	s := event.Step{ID: p.registry.id(), Command: command, Cached: true}
	describe(&s, v)
	known := p.known(v, identity)
	records, verdict := known.Judge(func(r evidence.Run) *policy.Scope {
		return t.Policy.For(policy.Step{Command: r.Command, Stage: s.Stage, Secrets: r.Secrets})
	})
	s.Evidence = &event.Evidence{Verdict: verdict, Runs: len(known.Runs), Doubt: known.Doubt}
	if n := len(known.Runs); n > 0 {
		s.Evidence.At, s.Evidence.PolicyDigest = known.Runs[n-1].At, known.Runs[n-1].PolicyDigest
		s.Command = known.Runs[n-1].Command // as policies select by; the build's own wording may be another
	}
	t.Journal.Add(stepRecord(s))
	for _, r := range records {
		t.Journal.Add(ofStep(r, s.ID))
	}
}

// known is the evidence for a cached vertex. It may be that of a step that has
// only just ended.
func (p *parts) known(v vertex.Vertex, key string) evidence.Evidence {
	if p.evidence == nil {
		return evidence.Evidence{}
	}
	p.vertices.ending.wait(context.Background(), nil)
	if p.vertices.table.Importing(v.Build) {
		if err := p.evidence.Doubt(key, event.EscapeMax(v.Name, 200)); err != nil {
			p.log.Warn("evidence of a step is lost", "step", v.Name, "error", err)
		}
	}
	return p.evidence.Look(key)
}
