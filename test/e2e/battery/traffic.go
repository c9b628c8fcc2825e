package battery

import (
	"fmt"
	"path"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// Traffic is what the lab counted during a run.
type Traffic struct {
	Origin, Sink, Names wire.State
	Uplink              []wire.Flow
	Lost                uint32 // frames that the capture missed
	Token               string
}

func matchName(pattern, name string) bool {
	if pattern == "*" {
		return true
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

func matchPort(pattern string, port uint16) bool {
	return pattern == "*" || pattern == strconv.Itoa(int(port))
}

// count is how often the line's traffic was seen.
func (t *Traffic) count(e *Expectation) int64 {
	switch e.Kind {
	case "names":
		return t.queries(e)
	case "uplink":
		return flows(t.Uplink, e)
	case "token":
		state, ok := map[string]wire.State{"origin": t.Origin, "sink": t.Sink, "names": t.Names}[e.What]
		if !ok {
			return -1
		}
		var n int64
		for where, k := range state.Tokens {
			if strings.HasSuffix(where, " "+t.Token) {
				n += k
			}
		}
		return n
	}
	state := t.Origin
	if e.Kind == "sink" {
		state = t.Sink
	}
	if strings.Contains(arrivals, " "+strings.TrimSuffix(e.What, ".bytes")+" ") {
		return arrived(state.Arrivals, e)
	}
	return flows(state.Flows, e)
}

func (t *Traffic) queries(e *Expectation) (n int64) {
	for _, q := range t.Names.Queries {
		if live(q.Name) || !matchName(e.Name, q.Name) || e.What != "*" && e.What != q.Type {
			continue
		}
		n += q.Count
	}
	return n
}

// live are the names of the liveness check.
func live(name string) bool { return name == "alive.test" || name == "dead.test" }

func arrived(list []wire.Arrival, e *Expectation) (n int64) {
	what, bytes := strings.CutSuffix(e.What, ".bytes")
	for _, a := range list {
		kind := a.Kind == what || what == "any" && (a.Kind == "tls" || a.Kind == "http")
		if !kind || live(a.Name) || !matchName(e.Name, a.Name) || !matchPort(e.Port, a.Orig.Port()) {
			continue
		}
		if a.Kind == "conn" && a.Orig.Addr().String() == wire.OriginPublic && e.Name == "*" {
			continue // the liveness check's; connections have no name
		}
		if bytes {
			n += a.Bytes
		} else {
			n += a.Count
		}
	}
	return n
}

// flows counts connections of TCP and packets of everything else.
func flows(list []wire.Flow, e *Expectation) (n int64) {
	what, bytes := strings.CutSuffix(e.What, ".bytes")
	for _, f := range list {
		kind := what == "*" || what == f.Proto || what == "other" && f.Proto != "tcp" && f.Proto != "udp"
		if !kind || !matchName(e.Name, f.Dst.String()) || !matchPort(e.Port, f.Port) {
			continue
		}
		switch {
		case bytes:
			n += f.Bytes
		case f.Proto == "tcp" && what != "*":
			n += f.SYNs
		default:
			n += f.Packets
		}
	}
	return n
}

func isTraffic(e *Expectation) bool {
	switch e.Kind {
	case "origin", "sink", "names", "uplink", "token":
		return true
	}
	return false
}

// check compares the lines with what was counted.
func (t *Traffic) check(lines []Expectation) (checks int, problems []string) {
	for i := range lines {
		e := &lines[i]
		if !isTraffic(e) {
			continue
		}
		checks++
		if n := t.count(e); !e.Count.has(n) {
			problems = append(problems, fmt.Sprintf("traffic: line %d: %q was seen %d times, want %v", e.Number, e.Line, n, e.Count))
		}
	}
	return checks, problems
}

// exceeded lists the lines that want nothing and got something: what leaked.
func (t *Traffic) exceeded(lines []Expectation) (leaks []string) {
	for i := range lines {
		e := &lines[i]
		if !isTraffic(e) || e.Count.Max != 0 {
			continue
		}
		if n := t.count(e); n > 0 {
			leaks = append(leaks, fmt.Sprintf("%q was seen %d times", e.Line, n))
		}
	}
	return leaks
}

// summary lists what was seen, for a failure's report.
func (t *Traffic) summary() string {
	var b strings.Builder
	for name, s := range map[string]wire.State{"origin": t.Origin, "sink": t.Sink} {
		for _, a := range s.Arrivals {
			fmt.Fprintf(&b, "%s: %d %s name=%q at %s %s\n", name, a.Count, a.Kind, a.Name, a.Orig, a.Detail)
		}
		for _, f := range s.Flows {
			fmt.Fprintf(&b, "%s: %d packets, %d SYN, %s from %s to %s port %d\n", name, f.Packets, f.SYNs, f.Proto, f.Src, f.Dst, f.Port)
		}
	}
	for _, q := range t.Names.Queries {
		fmt.Fprintf(&b, "names: %d %s %s over %s\n", q.Count, q.Name, q.Type, q.Net)
	}
	for _, f := range t.Uplink {
		fmt.Fprintf(&b, "uplink: %d packets, %d SYN, %s to %s port %d\n", f.Packets, f.SYNs, f.Proto, f.Dst, f.Port)
	}
	return b.String()
}
