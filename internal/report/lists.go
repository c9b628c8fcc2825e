package report

import (
	"cmp"
	"slices"

	"github.com/buildcage/buildcage/internal/event"
)

// ordered is a map that remembers the order of first sight.
type ordered[K comparable, V any] struct {
	index map[K]int
	keys  []K
	vals  []*V
}

// at returns the value of k, a zero one at first sight.
func (o *ordered[K, V]) at(k K) *V {
	if o.index == nil {
		o.index = make(map[K]int)
	}
	i, ok := o.index[k]
	if !ok {
		i = len(o.vals)
		o.index[k] = i
		o.keys = append(o.keys, k)
		o.vals = append(o.vals, new(V))
	}
	return o.vals[i]
}

func (o *ordered[K, V]) list() []V {
	list := make([]V, 0, len(o.vals))
	for _, v := range o.vals {
		list = append(list, *v)
	}
	return list
}

// lists fills the lists of r, none of them nil: in JSON an empty list is [].
func (s *sums) lists(r *Report) {
	r.Steps = s.steps.list()
	r.Destinations = s.destinations()
	r.Uploads = s.uploads()
	r.Drops = s.drops.list()
	for i := range r.Drops {
		r.Drops[i].Steps = some(r.Drops[i].Steps)
	}
	r.DNSRefused = s.refused.list()
	r.Resolvers = s.resolvers.list()
	r.Sources = s.sources.list()
	only := s.dnsOnly()
	r.Totals.DNSOnly = len(only)
	r.DNSOnly = only[:min(len(only), dnsOnlyLimit)]
	for _, list := range [][]Question{r.DNSRefused, r.DNSOnly} {
		for i := range list {
			list[i].Types, list[i].Steps = some(list[i].Types), some(list[i].Steps)
		}
	}
	for i := range r.Resolvers {
		r.Resolvers[i].Steps = some(r.Resolvers[i].Steps)
	}
}

func some(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

// destinations are sorted by what matters: refused, failed, the rest; by host within.
func (s *sums) destinations() []Destination {
	list := s.dests.list()
	for i := range list {
		d := &list[i]
		d.Steps, d.Processes = some(d.Steps), some(d.Processes)
	}
	slices.SortStableFunc(list, func(a, b Destination) int {
		return cmp.Or(
			cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Host, b.Host),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
	})
	return list
}

func rank(d Destination) int {
	switch {
	case d.Verdict == event.Blocked && !d.Expected:
		return 0
	case d.Verdict == event.Blocked:
		return 1
	case d.Verdict == event.Failed:
		return 2
	case d.Verdict == event.Audited:
		return 3
	}
	return 4
}

// dnsOnly are the names that some step asked for and then did not connect to.
func (s *sums) dnsOnly() []Question {
	var names ordered[string, Question]
	for i, k := range s.asked.keys {
		q := s.asked.vals[i]
		if s.connected[k] {
			continue
		}
		sum := names.at(k.name)
		sum.Name = k.name
		sum.Count = event.Add(sum.Count, q.Count)
		for _, t := range q.Types {
			add(&sum.Types, t)
		}
		addStep(&sum.Steps, k.step)
		sum.saw(q.First, event.Fold{First: q.First, Last: q.Last})
	}
	return names.list()
}

// count fills the totals from the lists.
func (r *Report) count() {
	t := &r.Totals
	t.Steps, t.Destinations = len(r.Steps), len(r.Destinations)
	for _, s := range r.Steps {
		if s.Cached {
			t.Cached++
		}
	}
	for _, d := range r.Destinations {
		t.Connections = event.Add(t.Connections, d.Connections)
		t.Up, t.Down = event.Add(t.Up, d.Up), event.Add(t.Down, d.Down)
		n := t.verdict(d.Verdict)
		*n = event.Add(*n, d.Connections)
		if d.Verdict == event.Blocked {
			t.refusal(d.Connections, d.Expected)
		}
	}
	for _, d := range r.Drops {
		t.Drops = event.Add(t.Drops, d.Count)
		t.refusal(d.Count, d.Expected)
	}
	t.refusal(t.DNSRefused, false)
}

func (t *Totals) refusal(n int64, expected bool) {
	if expected {
		t.Expected = event.Add(t.Expected, n)
	} else {
		t.Refusals = event.Add(t.Refusals, n)
	}
}

// verdict is the total of connections with verdict v, nil for an unknown one.
func (t *Totals) verdict(v event.Verdict) *int64 {
	switch v {
	case event.Allowed:
		return &t.Allowed
	case event.Audited:
		return &t.Audited
	case event.Blocked:
		return &t.Blocked
	case event.Failed:
		return &t.Failed
	}
	return nil
}
