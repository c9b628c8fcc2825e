package report

import (
	"slices"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

// Noise says that a kernel sends such a packet of its own accord when a link
// comes up, whatever the step does: router and neighbour discovery and
// multicast reports, to groups that never leave a link. It is refused like
// anything else, but it fails no build.
func Noise(d *event.Drop) bool { return d.Noise() }

func (p *Period) saw(t time.Time, f event.Fold) {
	first, last := f.First, f.Last
	if first.IsZero() {
		first = t
	}
	if last.IsZero() {
		last = t
	}
	if p.First.IsZero() || first.Before(p.First) {
		p.First = first
	}
	if last.After(p.Last) {
		p.Last = last
	}
}

// evidenceLimit is how many different values one entry lists; more stands for
// the others. Without it a flood could make Build slow.
const (
	evidenceLimit = 100
	more          = "..."
)

// add appends v if it says something new and there is room.
func add(list *[]string, v string) {
	switch {
	case v == "" || len(*list) > evidenceLimit || slices.Contains(*list, v):
	case len(*list) == evidenceLimit:
		*list = append(*list, more)
	default:
		*list = append(*list, v)
	}
}

// addStep appends the id of a step. There is always room for one.
func addStep(list *[]string, id string) {
	if !slices.Contains(*list, id) {
		*list = append(*list, id)
	}
}
