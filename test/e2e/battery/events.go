package battery

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// flat is an event as the conditions of a case see it: the JSON of its record,
// nested keys joined by dots, and for addresses also their parts.
type flat struct {
	kind   string
	fields map[string]string
	times  int64
	live   bool // of the liveness check, or of a step that waits for a hook
}

// liveCommand is in the command of every liveness step.
const liveCommand = "/.lab/bin/probe"

// flatten prepares the records of a run.
func flatten(records []event.Record) ([]flat, error) {
	steps := make(map[string]*event.Step)
	for _, r := range records {
		if r.Step != nil && (steps[r.Step.ID] == nil || steps[r.Step.ID].Name == "") {
			steps[r.Step.ID] = r.Step
		}
	}
	var list []flat
	for _, r := range records {
		f := flat{kind: string(r.Kind), fields: make(map[string]string), times: 1}
		data, err := json.Marshal(r)
		if err != nil {
			return nil, err
		}
		var all map[string]any
		if err := json.Unmarshal(data, &all); err != nil {
			return nil, err
		}
		f.add("", all[string(r.Kind)])
		if r.Truncated {
			f.fields["truncated"] = "true"
		}
		if n, err := strconv.ParseInt(f.fields["count"], 10, 64); err == nil && n > 1 {
			f.times = n
		}
		if s := steps[f.fields["step"]]; s != nil {
			f.fields["step.command"], f.fields["step.stage"], f.fields["step.name"] = s.Command, s.Stage, s.Name
		}
		f.live = strings.Contains(f.fields["step.command"], liveCommand) ||
			f.kind == "conn" && f.fields["name"] == "alive.test" && f.fields["verdict"] == string(event.Allowed)
		list = append(list, f)
	}
	return list, nil
}

func (f *flat) add(key string, v any) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			if key != "" {
				k = key + "." + k
			}
			f.add(k, inner)
		}
	case []any:
		var parts []string
		for _, p := range v {
			parts = append(parts, fmt.Sprint(p))
		}
		f.fields[key] = strings.Join(parts, ",")
	case float64:
		f.fields[key] = strconv.FormatFloat(v, 'f', -1, 64)
	case nil:
	default:
		text := fmt.Sprint(v)
		f.fields[key] = text
		if a, err := netip.ParseAddrPort(text); err == nil {
			f.fields[key+".addr"], f.fields[key+".port"] = a.Addr().String(), strconv.Itoa(int(a.Port()))
		}
	}
}

func (f *flat) String() string {
	var b strings.Builder
	b.WriteString(f.kind)
	if f.times > 1 {
		fmt.Fprintf(&b, " %d", f.times)
	}
	for _, k := range []string{
		"step", "step.command", "protocol", "name", "raw_name", "type", "orig", "orig_name", "dialled", "resolved", "dest", "method", "path",
		"request", "verdict", "reason", "detail", "rule", "flags", "foreign", "ref", "host", "expected", "bytes_up", "bytes_down",
	} {
		if v := f.fields[k]; v != "" {
			fmt.Fprintf(&b, " %s=%q", k, v)
		}
	}
	return b.String()
}

func (f *flat) matches(e *Expectation) bool {
	if f.kind != e.Kind {
		return false
	}
	for _, c := range e.Fields {
		if c.Op == "@" && !strings.Contains(f.fields[c.Value], f.fields[c.Key]) || c.Op != "@" && !c.holds(f.fields[c.Key]) {
			return false
		}
	}
	return true
}

func (c *Field) holds(v string) bool {
	switch c.Op {
	case "=":
		return v == c.Value
	case "!=":
		return v != c.Value
	case "~":
		return c.re.MatchString(v)
	}
	have, err1 := strconv.ParseFloat(v, 64)
	want, err2 := strconv.ParseFloat(c.Value, 64)
	if err1 != nil || err2 != nil {
		return false
	}
	return c.Op == ">=" && have >= want || c.Op == "<=" && have <= want
}

// matchEvents gives every event to a line, the first one that still has room,
// and reports lines that came out wrong and events that no line wants. An
// event of a kind that no line names is surplus if it is a conn or a drop.
func matchEvents(list []flat, lines []Expectation) (checks int, problems []string) {
	got := make([]int64, len(lines))
	named := map[string]bool{"conn": true, "drop": true}
	for i := range lines {
		if lines[i].Kind == "source" {
			named[lines[i].Kind] = true
		}
	}
	for i := range list {
		f := &list[i]
		if f.live {
			continue
		}
		best := -1
		for k := range lines {
			if !f.matches(&lines[k]) {
				continue
			}
			if best < 0 {
				best = k
			}
			if lines[k].Count.Max < 0 || got[k]+f.times <= lines[k].Count.Max {
				best = k
				break
			}
		}
		switch {
		case best >= 0:
			got[best] += f.times
		case named[f.kind]:
			problems = append(problems, "record: nothing expects "+f.String())
		}
	}
	for i, e := range lines {
		if e.Kind != "conn" && e.Kind != "drop" && e.Kind != "dns" && e.Kind != "step" && e.Kind != "source" {
			continue
		}
		checks++
		if !e.Count.has(got[i]) {
			problems = append(problems, fmt.Sprintf("record: line %d: %q happened %d times, want %v", e.Number, e.Line, got[i], e.Count))
		}
	}
	return checks, problems
}
