// Package lock is what the steps of a build reach, written down: buildcage.lock,
// and the comparison of two such sets. It is pure.
//
// A lock holds exact destinations, never patterns, so that it changes when a
// build does, whatever the rules allow. The builder's own traffic is not in it:
// what it fetches depends on what the engine has already.
package lock

import (
	"cmp"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
)

// Name is the name of the file.
const Name = "buildcage.lock"

// Version is the version of the file format.
const Version = 1

// Lock is what steps reach.
type Lock struct {
	Steps []Step
	// Unknown are steps of a run that the cache answered for without evidence:
	// what they reach is neither new nor gone.
	Unknown []Key
	// Builder and Refused are those of a run; a file has none.
	Builder []Destination
	Refused []Step
	// Run says that it was a run: it has a builder and refusals.
	Run bool
}

// Key names a step: its command, escaped as in a report, and its stage.
type Key struct{ Stage, Run string }

// Step is what one step reaches, sorted.
type Step struct {
	Key
	Reached []Destination
	Pos     string // in a file
}

// Destination is one of them.
type Destination struct {
	Host     string
	Port     uint16
	Protocol string // https, http, tcp, ip, or unknown
	Pos      string // in a file
}

// String is host:port, v6 in brackets.
func (d Destination) String() string {
	return net.JoinHostPort(d.Host, strconv.Itoa(int(d.Port)))
}

func (d Destination) same(o Destination) bool {
	return d.Host == o.Host && d.Port == o.Port && d.Protocol == o.Protocol
}

func compare(a, b Destination) int {
	return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Protocol, b.Protocol))
}

// Protocol is how a lock calls what a report calls by its own name.
func Protocol(p string) string {
	switch policy.Protocol(p) {
	case policy.TLS:
		return "https"
	case policy.HTTP, policy.TCP, policy.IP:
		return p
	}
	return "unknown"
}

// Of is what a run reached, and what it was refused.
func Of(r *report.Report) *Lock {
	l := &Lock{Run: true}
	keys := map[string]Key{}
	for _, s := range r.Steps {
		keys[s.ID] = Key{Stage: s.Stage, Run: s.Command}
		if s.Cached && (s.Evidence == nil || s.Evidence.Verdict == event.EvidenceMissing) {
			l.Unknown = append(l.Unknown, keys[s.ID])
		}
	}
	for _, d := range r.Destinations {
		dest := Destination{Host: d.Host, Port: d.Port, Protocol: Protocol(d.Protocol)}
		for _, id := range d.Steps {
			key, known := keys[id]
			switch {
			case id == event.BuilderStep:
				l.Builder = append(l.Builder, dest)
				continue
			case !known:
				key = Key{Run: id}
			}
			if d.Verdict == event.Blocked {
				l.Refused = put(l.Refused, key, dest)
			} else {
				l.Steps = put(l.Steps, key, dest)
			}
		}
	}
	l.sort()
	return l
}

func put(steps []Step, key Key, d Destination) []Step {
	i := slices.IndexFunc(steps, func(s Step) bool { return s.Key == key })
	if i < 0 {
		return append(steps, Step{Key: key, Reached: []Destination{d}})
	}
	steps[i].Reached = append(steps[i].Reached, d)
	return steps
}

// Put adds a step.
func (l *Lock) Put(s Step) {
	for _, d := range s.Reached {
		l.Steps = put(l.Steps, s.Key, d)
	}
	l.sort()
}

func (l *Lock) sort() {
	for _, steps := range []*[]Step{&l.Steps, &l.Refused} {
		for i := range *steps {
			s := &(*steps)[i]
			s.Reached = sorted(s.Reached)
		}
		slices.SortFunc(*steps, func(a, b Step) int {
			return cmp.Or(cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.Run, b.Run))
		})
	}
	l.Builder = sorted(l.Builder)
}

func sorted(list []Destination) []Destination {
	slices.SortFunc(list, compare)
	return slices.CompactFunc(list, Destination.same)
}

// Targets are what the policy is asked about d, in the proxy's order. None for
// what no rule can name.
func (d Destination) Targets() []policy.Target {
	name := policy.Target{Name: d.Host, Port: d.Port, Protocol: policy.TCP}
	switch d.Protocol {
	case "https":
		return []policy.Target{name, {Name: d.Host, Port: d.Port, Protocol: policy.TLS}}
	case "http":
		return []policy.Target{name, {Name: d.Host, Port: d.Port, Protocol: policy.HTTP}}
	case "tcp":
		return []policy.Target{name}
	case "ip":
		if addr, ok := parseAddr(d.Host); ok {
			return []policy.Target{{Addr: addr, Port: d.Port, Protocol: policy.IP}}
		}
	}
	return nil
}

// PolicyStep is the step as a policy knows it; ok is false where the record had
// to cut its command.
func (k Key) PolicyStep() (s policy.Step, ok bool) {
	if strings.Contains(k.Run, event.Mark) {
		return s, false
	}
	command := plain(k.Run)
	return policy.Step{Command: command, Stage: k.Stage, Undisclosed: true}, command != ""
}

// plain is an escaped command as it ran. A backslash that escapes nothing is
// one of the command's own.
func plain(command string) string {
	var b strings.Builder
	for command != "" {
		size := 1
		text := command[:1]
		if len(command) >= 4 && command[0] == '\\' {
			if raw, err := event.Unescape(command[:4]); err == nil {
				text, size = raw, 4
			}
		}
		b.WriteString(text)
		command = command[size:]
	}
	return b.String()
}
