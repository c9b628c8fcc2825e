package notice

import (
	"fmt"
	"net"
	"net/netip"
	"path"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Line is what to say about a record, "" when it is no refusal, or one that
// the policy expects. scope is that of the step; nil: what would allow it is
// not said.
func Line(r event.Record, scope *policy.Scope) (step, line string) {
	switch {
	case r.Conn != nil && r.Conn.Verdict == event.Blocked && !r.Conn.Expected:
		return r.Conn.Step, finish(conn(r.Conn, scope))
	case r.Drop != nil && !r.Drop.Noise():
		return r.Drop.Step, finish(drop(r.Drop))
	case r.DNS != nil && r.DNS.Reason != "":
		return r.DNS.Step, finish("refused dns question for " + r.DNS.Name + " (" + string(r.DNS.Reason) + ")")
	case r.DNS != nil && r.DNS.Foreign.IsValid():
		return r.DNS.Step, finish("dns question for " + r.DNS.Name + " to " + r.DNS.Foreign.String() + " did not leave: the cage answers it")
	}
	return "", ""
}

// finish makes the line inert, also for a CI runner, which takes ##[…] for a
// command wherever it stands, and fit for a log that everybody reads.
func finish(text string) string {
	text = "buildcage: " + strings.ReplaceAll(event.ShortLabels(event.Clean(text)), "##", `#\x23`)
	if len(text) > longest {
		text = text[:longest-3] + "..."
	}
	return text
}

func conn(c *event.Conn, scope *policy.Scope) string {
	var b strings.Builder
	b.WriteString("refused ")
	if c.Protocol != "" {
		b.WriteString(c.Protocol + " ")
	}
	b.WriteString(destination(c) + " (" + string(c.Reason) + ")")
	if by := process(c.Process); by != "" {
		b.WriteString(" by " + by)
	}
	if allow := allowing(c, scope); allow != "" {
		b.WriteString("; to allow: " + allow)
	}
	return b.String()
}

func destination(c *event.Conn) string {
	port := strconv.Itoa(int(c.Port))
	switch {
	case c.Name != "":
		return net.JoinHostPort(c.Name, port)
	case c.OrigName != "":
		return net.JoinHostPort(c.OrigName, port)
	case c.Orig.IsValid():
		return c.Orig.String()
	}
	return net.JoinHostPort(c.RawName, port)
}

// maxArgs is what a line shows of a process's arguments, which are redacted already.
const maxArgs = 120

// Process is who opened a connection, in a few printable words; "": not known.
func Process(p *event.Process) string { return event.Clean(process(p)) }

func process(p *event.Process) string {
	switch {
	case p == nil:
		return ""
	case len(p.Args) > 0:
		args := append([]string{path.Base(p.Args[0])}, p.Args[1:]...)
		return event.EscapeMax(strings.Join(strings.Fields(strings.Join(args, " ")), " "), maxArgs)
	case p.Exe != "":
		return event.EscapeMax(path.Base(p.Exe), maxArgs)
	case p.Gone:
		return "a process that is gone"
	}
	return ""
}

// allowing is the line of the configuration that would let it pass, "" where
// no single line would.
func allowing(c *event.Conn, scope *policy.Scope) string {
	if scope == nil {
		return ""
	}
	switch c.Reason {
	case event.NotAllowed, event.IPNotAllowed:
	case event.InternalAddress:
		if a := c.Resolved.Unmap(); a.IsPrivate() && !scope.Policy().PrivateAllowed(a) {
			return string(policy.PrivateRules) + ": " + netip.PrefixFrom(a, a.BitLen()).String()
		}
		return ""
	case event.UploadBudget:
		return fmt.Sprintf("a max_upload of more than %d bytes", scope.MaxUpload())
	default:
		return ""
	}
	t := policy.Target{Protocol: policy.Protocol(c.Protocol), Name: c.Name, Port: c.Port}
	if t.Protocol == policy.IP {
		t.Name, t.Addr = "", c.Orig.Addr()
	}
	e := scope.Explain(t)
	line := e.Line()
	if event.ShortLabels(line) != line { // nobody could copy it
		return ""
	}
	if line != "" && e.Section != "" {
		line += " in " + e.Section
	}
	return line
}

func drop(d *event.Drop) string {
	to := d.Dest.String()
	if d.Dest.Port() == 0 {
		to = d.Dest.Addr().String()
	}
	if d.Name != "" {
		to = d.Name + " (" + to + ")"
	}
	return "refused " + d.Protocol + " to " + to + ": only TCP leaves the cage"
}
