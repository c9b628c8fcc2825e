package lock

import (
	"fmt"
	"io"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// maxListed bounds what Text and Markdown list: a flood of names must not
// become a flood of lines. JSON has them all.
const maxListed = 200

// Summary is the difference in one sentence.
func (d *Diff) Summary() string {
	if d.Same {
		return "nothing new, nothing gone"
	}
	var parts []string
	add := func(n int, verb, what string) {
		if n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s", verb, count(n, what)))
		}
	}
	add(len(d.NewHosts), "adds", "new host")
	known := 0
	for _, c := range d.New {
		if !contains(d.NewHosts, c.Host) {
			known++
		}
	}
	add(known, "adds", "use of known hosts")
	add(len(d.Gone), "no longer makes", "use")
	return "this change " + strings.Join(parts, ", ")
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	if first, rest, ok := strings.Cut(what, " of "); ok {
		return fmt.Sprintf("%d %ss of %s", n, first, rest)
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Text writes the difference for a person.
func (d *Diff) Text(w io.Writer) error {
	var b strings.Builder
	b.WriteString(d.Summary() + "\n")
	d.list(func(sign string, c Change, known bool) {
		fmt.Fprintf(&b, "%s %s (%s) by %s%s\n", sign, inert(c.destination().String()), c.Protocol, who(c), remark(c, known))
	}, func(more int) { fmt.Fprintf(&b, "… and %d more\n", more) })
	if d.Unknown > 0 {
		fmt.Fprintf(&b, "%s from the cache not compared\n", count(d.Unknown, "step"))
	}
	return write(w, b.String())
}

// Markdown writes it for a comment on a pull request. Whatever a build says
// stands in code spans that it can't leave.
func (d *Diff) Markdown(w io.Writer) error {
	var b strings.Builder
	b.WriteString("### Egress: " + d.Summary() + "\n")
	if !d.Same {
		b.WriteString("\n| | destination | protocol | step |\n|---|---|---|---|\n")
	}
	d.list(func(sign string, c Change, known bool) {
		fmt.Fprintf(&b, "| %s%s | %s | %s | %s |\n", map[string]string{"+": "new", "-": "gone"}[sign], remark(c, known),
			span(c.destination().String()), c.Protocol, span(strings.ReplaceAll(who(c), `"`, "")))
	}, func(more int) { fmt.Fprintf(&b, "\n… and %d more\n", more) })
	if d.Unknown > 0 {
		fmt.Fprintf(&b, "\n%s from the cache not compared.\n", count(d.Unknown, "step"))
	}
	return write(w, b.String())
}

// list calls one for each change, and rest with how many are left out.
func (d *Diff) list(one func(sign string, c Change, known bool), rest func(more int)) {
	n := 0
	for sign, changes := range [][]Change{d.New, d.Gone} {
		for _, c := range changes {
			if n++; n <= maxListed {
				known := sign == 0 && !contains(d.NewHosts, c.Host)
				one([]string{"+", "-"}[sign], c, known)
			}
		}
	}
	if n > maxListed {
		rest(n - maxListed)
	}
}

func remark(c Change, known bool) string {
	switch {
	case c.Refused:
		return ", refused"
	case known:
		return ", known host"
	}
	return ""
}

const maxCommand = 80

func who(c Change) string {
	if c.Step == event.BuilderStep && c.Stage == "" {
		return "the builder"
	}
	command := inert(c.Step)
	if len(command) > maxCommand {
		command = command[:maxCommand] + "..."
	}
	if c.Stage != "" {
		return fmt.Sprintf("%q, stage %s", command, inert(c.Stage))
	}
	return fmt.Sprintf("%q", command)
}

// inert makes one line of printable ASCII, with what could be data shortened.
func inert(s string) string { return event.ShortLabels(event.Clean(s)) }

// span is a code span in a table.
func span(s string) string {
	return "`" + strings.NewReplacer("`", "'", "|", `\|`, "\n", " ").Replace(inert(s)) + "`"
}

func write(w io.Writer, text string) error {
	if _, err := io.WriteString(w, text); err != nil {
		return fmt.Errorf("writing the difference: %w", err)
	}
	return nil
}
