package supervise

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/cage/tenant"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// turned are the latest refusals of the builder's own traffic, for the error
// of the build that needed it: the builder has no log of its own. The zero
// value is ready.
type turned struct {
	mu    sync.Mutex
	lines []turnedLine
}

type turnedLine struct {
	at   time.Time
	host string
	line string
	http bool // the client has an answer of ours, status 403
	// whose builds it may have been for
	whose []*tenant.Tenant
}

const maxTurned = 64

func (t *turned) add(c *event.Conn, line string, whose []*tenant.Tenant) {
	host := c.Name
	if host == "" {
		host = c.OrigName
	}
	if host == "" && c.Orig.IsValid() {
		host = c.Orig.Addr().String()
	}
	if host == "" || line == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) >= maxTurned {
		t.lines = t.lines[1:]
	}
	t.lines = append(t.lines, turnedLine{time.Now(), host, line, c.Protocol == string(policy.HTTP), whose})
}

// explain returns the refusals since then, of a tenant's builds, of hosts that
// the message names, or that it tells nothing of but our status.
func (t *turned) explain(to *tenant.Tenant, since time.Time, message string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var lines []string
	for _, l := range t.lines {
		named := strings.Contains(message, l.host) || l.http && strings.Contains(message, "response status 403")
		if !l.at.Before(since) && slices.Contains(l.whose, to) && named && !strings.Contains(message, l.line) && !slices.Contains(lines, l.line) {
			lines = append(lines, l.line)
		}
	}
	return strings.Join(lines, "; ")
}
