package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// suggest prints what to add, complete and uncut: it is there to be copied.
func (t *text) suggest() {
	if t.toAdd() == 0 {
		return
	}
	file := inert(t.report.Config)
	if file == "" {
		file = "buildcage.yaml"
	}
	if t.report.Mode == audit {
		t.heading("%s to %s", t.toWrite(), file)
	} else {
		t.heading("to allow what you expect, add to %s", file)
	}
	t.brief = t.report.Mode != audit
	flags := t.rules()
	if t.report.Mode != audit {
		t.flags(flags)
		t.line(t.dim.Render("what is rightly refused goes under known_blocked_rules, and fails no build"))
	}
}

// maxRules is how many rules of a list a refusal suggests: who is refused more
// wants an audit.
const maxRules = 100

// rules prints what to add as a policy file has it, and returns the flags that
// do the same for one run.
func (t *text) rules() (flags []string) {
	s := &t.report.Suggested
	if !t.perStep {
		flags = t.yaml(&s.Lists, "  ")
	}
	t.yamlList(string(policy.PrivateRules), s.AllowPrivate, "  ")
	for _, e := range s.Entries {
		t.line("  ", inert(entryName(&e)), ":")
		flags = append(flags, t.yaml(&e.Lists, "    ")...)
	}
	if t.perStep && len(s.Steps) > 0 {
		t.line("  steps:")
		for _, e := range s.Steps {
			t.line("    - run: ", t.selector(e.Selector))
			t.yaml(&e.Lists, "      ")
		}
	}
	if s.Builder.rules() > 0 {
		t.line("  builder:")
		t.yaml(&s.Builder, "    ")
	}
	return flags
}

// rulesText is that alone.
func rulesText(r *Report, perStep bool) string {
	t := newText(r, Options{Width: maxWidth, PerStep: perStep})
	t.rules()
	var b strings.Builder
	for line := range strings.Lines(t.out.String()) {
		b.WriteString(strings.TrimPrefix(line, "  "))
	}
	return b.String()
}

// entryName says which entry of steps: is meant.
func entryName(e *EntryRules) string {
	name := fmt.Sprintf("steps[%d]", e.Entry)
	if e.Pos != "" {
		name += " at " + e.Pos
	}
	return name
}

// selector is a run: selector in double quotes, cut to the line.
func (t *text) selector(run string) string {
	return end(inert(strconv.QuoteToASCII(run)), t.width-11)
}

// yaml prints the lists and returns the flags that do the same for one run.
func (t *text) yaml(l *Lists, indent string) (flags []string) {
	for _, key := range policy.AllowLists() {
		rules := *l.list(key)
		t.yamlList(string(key), rules, indent)
		for _, rule := range rules {
			if !overlong(rule) {
				flags = append(flags, key.Flag()+" "+quote(rule))
			}
		}
	}
	return flags
}

func (t *text) yamlList(key string, rules []string, indent string) {
	if len(rules) == 0 {
		return
	}
	t.line(indent, key, ":")
	for i, rule := range rules {
		if i == maxRules && t.brief {
			t.line(indent, fmt.Sprintf("  # and %d more: whole in the JSON report", len(rules)-i))
			break
		}
		if overlong(rule) {
			t.line(indent, "  # ", inert(rule), ": whole in the JSON report")
			continue
		}
		t.line(indent, "  - ", quoteYAML(rule))
	}
}

// overlong says that a rule can't be printed whole where everybody reads along.
func overlong(rule string) bool { return event.ShortLabels(rule) != rule }

// quoteYAML and quote leave alone what is a plain host:port. Rules are made of
// canonical names and addresses, so no quote has to be escaped.
func quoteYAML(rule string) string {
	if strings.ContainsAny(rule, "abcdefghijklmnopqrstuvwxyz") && !strings.HasPrefix(rule, "[") {
		return inert(rule)
	}
	return `"` + inert(rule) + `"`
}

func quote(rule string) string {
	if strings.HasPrefix(rule, "[") {
		return "'" + inert(rule) + "'"
	}
	return inert(rule)
}

func (t *text) flags(flags []string) {
	slices.Sort(flags)
	if flags = slices.Compact(flags); len(flags) == 0 || len(flags) > maxRules {
		return
	}
	line := "or once:"
	for _, f := range flags {
		if len(line)+1+len(f) > t.width && line != "  " {
			t.line(line)
			line = "        "
		}
		line += " " + f
	}
	t.line(line)
}
