package report

import (
	"cmp"
	"net/netip"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// dnsOnlyLimit is how many names dns_only lists; totals count them all.
const dnsOnlyLimit = 1000

// Build sums up a run.
func Build(in Input) *Report {
	r := &Report{
		Schema: Schema, Mode: in.Mode, BuildExit: in.BuildExit, Config: event.Clean(in.Config), Dockerfile: event.Clean(in.Dockerfile),
		Started: in.Started.UTC().Round(0), DurationMS: in.Duration.Milliseconds(),
		Complete: in.Complete, Problem: event.Clean(in.Problem),
	}
	s := newSums()
	s.audit = in.Mode == string(policy.Audit)
	for i := range in.Records {
		rec := in.Records[i].Cleaned()
		s.record(r, &rec)
	}
	r.checkEnds(in.Records)
	s.place(in)
	s.lists(r)
	r.Suggested = s.suggestions(in.Policy)
	r.count()
	r.Outcome = r.outcome(in)
	return r
}

// checkEnds takes completeness back where the records themselves contradict it.
func (r *Report) checkEnds(records []event.Record) {
	problem := ""
	if n := len(records); n == 0 || records[0].Start == nil || records[n-1].End == nil {
		problem = event.ErrIncomplete.Error()
	} else if reason := records[n-1].End.Reason; strings.HasPrefix(reason, "failed") {
		problem = "the cage " + event.Clean(reason)
	}
	if problem != "" {
		r.Complete = false
		r.Problem = cmp.Or(r.Problem, problem)
	}
	if !r.Complete {
		r.Problem = cmp.Or(r.Problem, "the reason is not known")
	}
}

// sums are the records seen so far, by what makes them alike.
type sums struct {
	audit     bool
	steps     ordered[string, Step]
	dests     ordered[destKey, Destination]
	drops     ordered[dropKey, Drop]
	asked     ordered[askKey, Question]
	refused   ordered[refusedKey, Question]
	resolvers ordered[netip.Addr, Resolver]
	sources   ordered[sourceKey, Source]
	connected map[askKey]bool // names that a step connected to
	sends     ordered[uploadKey, Upload]
	targets   ordered[target, struct{}]
	judged    map[string]policy.Step // what the cage knew of a step when it began
}

type (
	destKey struct {
		host, protocol string
		port           uint16
		verdict        event.Verdict
		reason         event.Reason
		rule           string
		expected       bool
	}
	dropKey struct {
		protocol, name string
		dest           netip.AddrPort
	}
	askKey     struct{ step, name string }
	refusedKey struct {
		name   string
		reason event.Reason
	}
	sourceKey struct{ ref, host string }
)

func newSums() *sums {
	return &sums{connected: make(map[askKey]bool), judged: make(map[string]policy.Step)}
}

func (s *sums) record(r *Report, rec *event.Record) {
	switch {
	case rec.Start != nil:
		r.RunID, r.PolicyDigest, r.Versions = rec.Start.RunID, rec.Start.PolicyDigest, rec.Start.Versions
		r.Mode = cmp.Or(r.Mode, rec.Start.Mode)
	case rec.Step != nil:
		s.step(rec.Step)
	case rec.DNS != nil:
		s.dns(r, rec)
	case rec.Conn != nil:
		s.conn(rec)
	case rec.Drop != nil:
		s.drop(rec)
	case rec.Source != nil:
		src := s.sources.at(sourceKey{rec.Source.Ref, rec.Source.Host})
		src.Ref, src.Host = rec.Source.Ref, rec.Source.Host
		src.Up, src.Down = event.Add(src.Up, rec.Source.Up), event.Add(src.Down, rec.Source.Down)
		for _, host := range rec.Source.Hosts {
			add(&src.Hosts, host)
		}
		src.Count++
	case rec.End != nil:
		r.Totals.Lost = rec.End.Lost
	}
}

// step merges the records of a step: the later one knows more, except where it
// says nothing.
func (s *sums) step(e *event.Step) {
	if _, began := s.judged[e.ID]; !began {
		s.judged[e.ID] = policy.Step{Command: plain(e.Command), Stage: e.Stage, Line: e.Line, Secrets: len(e.Secrets) > 0}
	}
	st := s.steps.at(e.ID)
	st.ID, st.Cached = e.ID, st.Cached || e.Cached
	st.Name, st.Command = cmp.Or(e.Name, st.Name), cmp.Or(e.Command, st.Command)
	st.Stage, st.File, st.Line = cmp.Or(e.Stage, st.Stage), cmp.Or(e.File, st.File), cmp.Or(e.Line, st.Line)
	st.Network = cmp.Or(e.Network, st.Network)
	if e.Evidence != nil {
		st.Evidence = &Evidence{Verdict: e.Evidence.Verdict, Doubt: event.Clean(e.Evidence.Doubt)}
		if !e.Evidence.At.IsZero() {
			st.Evidence.Observed = &e.Evidence.At
		}
	}
	st.DurationMS = cmp.Or(e.Took.Milliseconds(), st.DurationMS)
	for _, secret := range e.Secrets {
		add(&st.Secrets, secret)
	}
	if e.Exit != nil {
		st.Exit = e.Exit
	}
}

// place gives steps their lines.
func (s *sums) place(in Input) {
	for _, st := range s.steps.vals {
		if line := in.Lines[st.ID]; st.Line == 0 && line > 0 {
			st.File, st.Line = event.Clean(in.File), line
		}
	}
}

func (s *sums) conn(rec *event.Record) {
	c := rec.Conn
	host := hostOf(c)
	if new(Totals).verdict(c.Verdict) == nil {
		c.Verdict = event.Blocked // no Decoder lets it through; nothing is allowed by not being understood
	}
	for _, name := range []string{c.Name, c.OrigName} {
		s.connected[askKey{c.Step, name}] = true
	}
	d := s.dests.at(destKey{host, c.Protocol, c.Port, c.Verdict, c.Reason, c.Rule, c.Expected})
	d.Host, d.Port, d.Protocol = host, c.Port, c.Protocol
	d.Verdict, d.Reason, d.Rule, d.RulePos, d.Expected = c.Verdict, c.Reason, c.Rule, c.RulePos, c.Expected
	d.Connections = event.Add(d.Connections, c.Times())
	d.Up, d.Down = event.Add(d.Up, c.Up), event.Add(d.Down, c.Down)
	addStep(&d.Steps, c.Step)
	add(&d.Processes, processOf(c.Process))
	add(&d.NameRaw, c.RawName)
	add(&d.Detail, c.Detail)
	if c.OrigName == "" && c.Orig.IsValid() {
		add(&d.Orig, c.Orig.String())
	}
	if c.Resolved.IsValid() {
		add(&d.Resolved, c.Resolved.String())
	}
	if c.Dialled.IsValid() {
		add(&d.Dialled, c.Dialled.String())
	}
	for _, f := range c.Flags {
		add(&d.Flags, f)
	}
	d.saw(rec.Time, c.Fold)
	s.sent(host, c)
	s.target(c)
}

// hostOf is what a person calls the destination of c.
func hostOf(c *event.Conn) string {
	switch {
	case c.Name != "":
		return c.Name
	case c.OrigName != "":
		return c.OrigName
	case c.Orig.IsValid():
		return c.Orig.Addr().Unmap().String()
	}
	return c.RawName
}

func (s *sums) dns(r *Report, rec *event.Record) {
	d := rec.DNS
	r.Totals.DNS = event.Add(r.Totals.DNS, d.Times())
	var q *Question
	if d.Reason == "" {
		q = s.asked.at(askKey{d.Step, d.Name})
	} else {
		q = s.refused.at(refusedKey{d.Name, d.Reason})
		r.Totals.DNSRefused = event.Add(r.Totals.DNSRefused, d.Times())
	}
	q.Name, q.Reason = d.Name, d.Reason
	q.Count = event.Add(q.Count, d.Times())
	add(&q.Types, d.Type)
	addStep(&q.Steps, d.Step)
	q.saw(rec.Time, d.Fold)
	if d.Foreign.IsValid() {
		f := s.resolvers.at(d.Foreign)
		f.Address = d.Foreign.String()
		f.Count = event.Add(f.Count, d.Times())
		addStep(&f.Steps, d.Step)
	}
}

func (s *sums) drop(rec *event.Record) {
	e := rec.Drop
	d := s.drops.at(dropKey{e.Protocol, e.Name, e.Dest})
	d.Protocol, d.Name, d.Port = e.Protocol, e.Name, e.Dest.Port()
	if e.Dest.IsValid() {
		d.Address = e.Dest.Addr().Unmap().String()
	}
	d.Expected = Noise(e)
	d.Count = event.Add(d.Count, e.Times())
	addStep(&d.Steps, e.Step)
	d.saw(rec.Time, e.Fold)
}
