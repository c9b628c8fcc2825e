package lock

import (
	"cmp"
	"slices"

	"github.com/buildcage/buildcage/internal/event"
)

// Schema names the JSON form of a Diff. It only grows.
const Schema = "buildcage.diff/v1"

// Diff is how two sets differ.
type Diff struct {
	Schema    string   `json:"schema"`
	A         string   `json:"a"`
	B         string   `json:"b"`
	Same      bool     `json:"same"`
	New       []Change `json:"new"`
	Gone      []Change `json:"gone"`
	NewHosts  []string `json:"new_hosts"`  // that nothing in A reached
	GoneHosts []string `json:"gone_hosts"` // that nothing in B reaches
	// Unknown is how many steps were not compared: the cache answered for them,
	// and nobody knows what they reach.
	Unknown int `json:"unknown,omitempty"`
}

// Change is one destination of one step.
type Change struct {
	Step     string `json:"step"` // its command, or "builder"
	Stage    string `json:"stage,omitempty"`
	Host     string `json:"host"`
	Port     uint16 `json:"port"`
	Protocol string `json:"protocol"`
	Refused  bool   `json:"refused,omitempty"`
}

func (c Change) destination() Destination {
	return Destination{Host: c.Host, Port: c.Port, Protocol: c.Protocol}
}

// Compare tells what B reaches and A does not, and the reverse. The builder and
// refusals count when both are runs, because a lock says nothing of them.
func Compare(nameA string, a *Lock, nameB string, b *Lock) *Diff {
	runs := a.Run && b.Run
	inA, inB := a.changes(runs), b.changes(runs)
	unknown := slices.Concat(a.Unknown, b.Unknown)
	d := &Diff{Schema: Schema, A: event.Clean(nameA), B: event.Clean(nameB),
		New: without(inB, inA, unknown), Gone: without(inA, inB, unknown), Unknown: distinct(unknown)}
	d.NewHosts, d.GoneHosts = onlyIn(d.New, inA), onlyIn(d.Gone, inB)
	d.Same = len(d.New)+len(d.Gone) == 0
	return d
}

func distinct(keys []Key) int {
	slices.SortFunc(keys, func(a, b Key) int { return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Run, b.Run)) })
	return len(slices.Compact(keys))
}

func (l *Lock) changes(runs bool) []Change {
	var list []Change
	add := func(key Key, d Destination, refused bool) {
		list = append(list, Change{key.Run, key.Stage, d.Host, d.Port, d.Protocol, refused})
	}
	for _, s := range l.Steps {
		for _, d := range s.Reached {
			add(s.Key, d, false)
		}
	}
	if !runs {
		return list
	}
	for _, s := range l.Refused {
		for _, d := range s.Reached {
			add(s.Key, d, true)
		}
	}
	for _, d := range l.Builder {
		add(Key{Run: event.BuilderStep}, d, false)
	}
	return list
}

// without is what of list is not in other. What a step of unknown reaches is
// no difference.
func without(list, other []Change, unknown []Key) []Change {
	out := []Change{}
	for _, c := range list {
		if !slices.Contains(other, c) && !slices.Contains(unknown, Key{Stage: c.Stage, Run: c.Step}) {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Change) int {
		return cmp.Or(compare(a.destination(), b.destination()), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Step, b.Step))
	})
	return out
}

// onlyIn are the hosts of changes that other does not have.
func onlyIn(changes, other []Change) []string {
	hosts := []string{}
	for _, c := range changes {
		if !slices.ContainsFunc(other, func(o Change) bool { return o.Host == c.Host }) {
			hosts = append(hosts, c.Host)
		}
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}
