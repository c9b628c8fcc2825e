package supervise

import (
	"cmp"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/event"
)

// This file says what was moved for whom, as far as that is certain. Sources
// that were at work on the same host at the same time can't be told apart: they
// are told as one.

// finish returns what a build that is over has fetched, in its order.
func (s *sources) finish(build string, moved func(from, to time.Time) map[string]proxy.Traffic) []event.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ours []*source
	for _, one := range s.all {
		if one.build == build && !one.failed && !one.told {
			one.told = true
			ours = append(ours, one)
		}
	}
	var list []event.Source
	for _, group := range s.groups(ours) {
		src := event.Source{Ref: event.Escape(refs(group)), Host: event.EscapeMax(group[0].host, 255)}
		attribute(&src, s.traffic(group, moved))
		if strings.HasPrefix(group[0].ref, "resolve ") && src.Down == 0 {
			continue // answered from memory
		}
		list = append(list, src)
	}
	return list
}

// groups puts together what can't be told apart.
func (s *sources) groups(ours []*source) (groups [][]*source) {
	for len(ours) > 0 {
		group := ours[:1:1]
		ours = ours[1:]
		for i := 0; i < len(group); i++ {
			ours = slices.DeleteFunc(slices.Clone(ours), func(o *source) bool {
				found := s.blurs(group[i], o)
				if found {
					group = append(group, o)
				}
				return found
			})
		}
		groups = append(groups, group)
	}
	return groups
}

// blurs reports whether what a and b moved can't be told apart.
func (s *sources) blurs(a, b *source) bool {
	return s.exact(a) == nil && s.exact(b) == nil && a.rivals(b)
}

// rivals reports whether a and b were at work at the same time, and perhaps
// with the same host.
func (o *source) rivals(b *source) bool {
	return o.digest != b.digest && o.meets(b) && (o.host == b.host || o.host == "" || b.host == "")
}

// maxRefs is how many sources of a group are named.
const maxRefs = 4

func refs(group []*source) string {
	var list []string
	for _, one := range group[:min(len(group), maxRefs)] {
		list = append(list, one.ref)
	}
	if len(group) > maxRefs {
		list = append(list, "more")
	}
	return strings.Join(list, " + ")
}

// exact is what was moved over plain HTTP for a source, which its address tells.
func (s *sources) exact(one *source) map[string]proxy.Traffic {
	for word := range strings.FieldsSeq(one.ref) {
		if t, ok := s.url[word]; ok {
			return map[string]proxy.Traffic{authority(word): t}
		}
	}
	return nil
}

// traffic is what was moved for a group: all that moved while no other was at
// work; else what moved to its own hosts, when no other at work has those.
func (s *sources) traffic(group []*source, moved func(from, to time.Time) map[string]proxy.Traffic) map[string]proxy.Traffic {
	if exact := s.exact(group[0]); exact != nil {
		return exact
	}
	total := make(map[string]proxy.Traffic)
	alone := true
	hosts := make(map[string]bool)
	for _, one := range group {
		hosts[one.host] = true
		for _, o := range s.all {
			if slices.Contains(group, o) || o.digest == one.digest || !o.meets(one) {
				continue
			}
			if alone = false; one.rivals(o) {
				return total
			}
		}
	}
	for _, i := range s.untold(group) {
		for dest, t := range moved(i.from, i.to) {
			if host, _, err := net.SplitHostPort(dest); alone || err == nil && hosts[host] {
				total[dest] = proxy.Traffic{Up: total[dest].Up + t.Up, Down: total[dest].Down + t.Down}
			}
		}
	}
	return total
}

// untold is when a group may have moved something, a little more than its
// times, each moment once: not what another build was told that waited for the
// same vertex, as the one that looks for the Dockerfile in a git context does.
func (s *sources) untold(group []*source) (list []interval) {
	var all []interval
	for _, one := range group {
		for _, i := range one.times {
			if !s.toldOf(one, i) {
				all = append(all, interval{i.from.Add(-blur), i.to.Add(blur)})
			}
		}
	}
	slices.SortFunc(all, func(a, b interval) int { return a.from.Compare(b.from) })
	for _, i := range all {
		if n := len(list); n > 0 && i.from.Before(list[n-1].to) {
			if i.to.After(list[n-1].to) {
				list[n-1].to = i.to
			}
			continue
		}
		list = append(list, i)
	}
	return list
}

// toldOf reports whether another build was told of this time of the vertex.
func (s *sources) toldOf(one *source, i interval) bool {
	return slices.ContainsFunc(s.all, func(o *source) bool {
		return o.build != one.build && o.told && o.digest == one.digest &&
			slices.ContainsFunc(o.times, func(t interval) bool { return t.from.Equal(i.from) })
	})
}

// authority is host:port of a plain HTTP url.
func authority(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80"))
}

func (o *source) meets(one *source) bool {
	for _, a := range o.times {
		if slices.ContainsFunc(one.times, a.meets) {
			return true
		}
	}
	return false
}
