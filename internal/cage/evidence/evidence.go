// Package evidence remembers what cached steps did when they ran. A step that
// the cache answers is not observed; what it contacted when it was is kept
// beside the cache and judged by the policy of today.
//
// A result of BuildKit's cache can't be traced to the run that made it, and
// the digest of a vertex changes with every session. So evidence is kept by
// what a step is (see vertex.Table.Identity), of every run of it, and a cached
// step answers for all of them. The rules, all for the same reason:
//
//   - what was not observed completely is missing, never clean;
//   - nothing is forgotten quietly: what has to go leaves a mark, and the step
//     is missing evidence from then on;
//   - a result that may have been made elsewhere is missing evidence.
package evidence

import (
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

// version of a file; another one is missing evidence.
const version = 1

// Evidence is what is known of one step.
type Evidence struct {
	Version int    `json:"version"`
	Name    string `json:"name"` // as the build calls it; for people
	Runs    []Run  `json:"runs"` // oldest first
	// Doubt says why the runs are not all there were; empty: they are.
	Doubt string `json:"doubt,omitempty"`
}

// Run is one run of a step that succeeded.
type Run struct {
	At           time.Time    `json:"at"`
	PolicyDigest string       `json:"policy_digest"`
	Command      string       `json:"command"` // as the runtime saw it
	Secrets      bool         `json:"secrets,omitempty"`
	Conns        []event.Conn `json:"conns,omitempty"`
	Drops        []event.Drop `json:"drops,omitempty"`
	DNS          []event.DNS  `json:"dns,omitempty"`
	// Cut says that there was more than fits, or that it ended before all was seen.
	Cut bool `json:"cut,omitempty"`
}

const (
	// maxRuns is how many runs a step has evidence of; with more, the two oldest become one.
	maxRuns = 8
	// maxEntries is how many destinations, drops or names a run lists.
	maxEntries = 256
)

// add appends a run. The oldest ones are joined, so that none is forgotten.
func (e *Evidence) add(r Run) {
	e.Runs = append(e.Runs, r)
	for len(e.Runs) > maxRuns {
		e.Runs[1] = join(e.Runs[0], e.Runs[1])
		e.Runs = e.Runs[1:]
	}
}

// join is a run that did what both did; what is said once is newer's.
func join(older, newer Run) Run {
	o := observation{run: newer}
	o.index()
	for i := range older.Conns {
		c := &older.Conns[i]
		o.conn(c, c.First, c.Last)
	}
	for _, d := range older.Drops {
		o.drop(d)
	}
	for _, d := range older.DNS {
		o.dns(d)
	}
	o.run.Cut = o.run.Cut || newer.Cut || older.Cut
	o.run.Secrets = newer.Secrets || older.Secrets
	return o.result()
}
