package report

import (
	"strings"

	"github.com/buildcage/buildcage/internal/policy"
)

// suggest prints what to add, complete and uncut: it is there to be copied.
func (t *text) suggest() {
	s := &t.report.Suggested
	if s.rules()+s.Builder.rules()+len(s.AllowPrivate) == 0 {
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
	flags := t.yaml(&s.Lists, "  ")
	t.yamlList(string(policy.PrivateRules), s.AllowPrivate, "  ")
	if s.Builder.rules() > 0 {
		t.line("  builder:")
		t.yaml(&s.Builder, "    ")
	}
	if t.report.Mode != audit {
		t.flags(flags)
		t.line(t.dim.Render("what is rightly refused goes under known_blocked_rules, and fails no build"))
	}
}

// yaml prints the lists and returns the flags that do the same for one run.
func (t *text) yaml(l *Lists, indent string) (flags []string) {
	for _, key := range policy.AllowLists() {
		rules := *l.list(key)
		t.yamlList(string(key), rules, indent)
		for _, rule := range rules {
			flags = append(flags, key.Flag()+" "+quote(rule))
		}
	}
	return flags
}

func (t *text) yamlList(key string, rules []string, indent string) {
	if len(rules) == 0 {
		return
	}
	t.line(indent, key, ":")
	for _, rule := range rules {
		t.line(indent, "  - ", quoteYAML(rule))
	}
}

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
	if len(flags) == 0 {
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
