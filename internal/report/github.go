package report

import (
	"cmp"
	"fmt"
	"io"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

// annotationLimit is how many annotations of one level GitHub keeps of a step.
const annotationLimit = 10

// GitHub writes r as workflow commands, which a runner turns into annotations
// at the lines of the Dockerfile: refusals and an incomplete record are errors,
// what deserves a look a warning, what is expected or cached a notice. Of each
// level there are at most as many as GitHub keeps; the last says how many more.
func GitHub(w io.Writer, r *Report, opts Options) error {
	a := annotations{summary: newSummary(r, opts.PerStep), byLevel: make(map[string][]string)}
	a.collect()
	return write(w, a.String())
}

type annotations struct {
	summary
	byLevel map[string][]string
}

const (
	levelError   = "error"
	levelWarning = "warning"
	levelNotice  = "notice"
)

// command adds one annotation. An empty step is the run as a whole.
func (a *annotations) command(level, step, title, text string) {
	at := "title=" + property("buildcage: "+title)
	if step != "" {
		if file, line := a.source(step); line > 0 {
			at = fmt.Sprintf("file=%s,line=%d,%s", property(inert(file)), line, at)
		}
	}
	a.byLevel[level] = append(a.byLevel[level], "::"+level+" "+at+"::"+message(text)+"\n")
}

func (a *annotations) collect() {
	r := a.report
	if !r.Complete {
		a.command(levelError, "", "incomplete record", strings.Join(a.doubts(), "; "))
	}
	for _, i := range a.items() {
		step := one(i.steps)
		text := fmt.Sprintf("%s tried %s (%s, %d×): %s", a.title(step, 80), i.what, protocol(i.protocol), i.count, i.because())
		if i.expected {
			a.command(levelNotice, step, "refused, as expected", text)
			continue
		}
		text += "."
		if s := sentence(i.reason); s != "" {
			text += " " + s
		}
		text += a.secret(step)
		a.command(levelError, step, "refused "+i.what, text)
	}
	for _, u := range r.Uploads {
		a.command(levelWarning, u.Step, "upload", fmt.Sprintf("%s sent %s to %s and got %s back.", a.title(u.Step, 80), size(u.Up), address(u.Host, u.Port), size(u.Down))+a.secret(u.Step))
	}
	if n := max(r.Totals.DNSOnly, len(r.DNSOnly)); len(r.DNSOnly) > 0 {
		q := r.DNSOnly[0]
		a.command(levelWarning, one(q.Steps), "names only asked for",
			fmt.Sprintf("%s asked for and not connected to, such as %s; nothing was sent on", plural(int64(n), "name"), address(q.Name, 0)))
	}
	for _, s := range a.fromCache() {
		level := levelNotice
		if s.Evidence == nil || s.Evidence.Verdict != event.EvidenceClean {
			level = levelWarning
		}
		a.command(level, s.ID, "from cache", a.title(s.ID, 80)+": "+judgedAs(s.Evidence))
	}
	_, line := a.headline()
	a.command(levelNotice, "", cmp.Or(inert(string(r.Outcome)), "report"), line+" · "+a.totals())
}

// String is what is left within the limits; the summary of the run comes last
// and always.
func (a *annotations) String() string {
	var b strings.Builder
	for _, level := range []string{levelError, levelWarning, levelNotice} {
		list := a.byLevel[level]
		if n := len(list); n > annotationLimit {
			last := list[n-1]
			list = list[:annotationLimit-1]
			if level == levelNotice {
				list = append(list, last)
			} else {
				list = append(list, fmt.Sprintf("::%s title=buildcage::%s\n", level, message(fmt.Sprintf("and %d more: see the whole report", n-len(list)))))
			}
		}
		for _, line := range list {
			b.WriteString(line)
		}
	}
	return b.String()
}

// one is the first of list, if there is one.
func one(list []string) string {
	if len(list) == 0 {
		return ""
	}
	return list[0]
}

// message and property escape what ends a command or a property of one, as the
// runner undoes it.
func message(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

func property(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}
