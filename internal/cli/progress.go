package cli

import (
	"fmt"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/runner"
)

// slow is how long a step of the runner may take before it is worth a line
// where lines stay.
const slow = 500 * time.Millisecond

// progress shows what the runner does around a build: on a terminal a line
// that goes away again, elsewhere a line for what takes long. The build itself
// is buildx's to show.
type progress struct {
	streams *streams
	silent  bool

	mu    sync.Mutex
	shown bool // a transient line is on the screen
	timer *time.Timer
}

func newProgress(s *streams, silent bool) *progress { return &progress{streams: s, silent: silent} }

// buildStep is the runner's step that shows itself.
const buildStep = "build"

func (p *progress) step(name string, state runner.State) {
	if p.silent {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
	if state != runner.Started || name == buildStep {
		return
	}
	if p.streams.transient() {
		fmt.Fprintf(p.streams.err, "buildcage: %s …", name)
		p.shown = true
		return
	}
	p.timer = time.AfterFunc(slow, func() { fmt.Fprintf(p.streams.err, "buildcage: %s …\n", name) })
}

// clear takes away what is shown.
func (p *progress) clear() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.erase()
}

func (p *progress) erase() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if p.shown {
		fmt.Fprint(p.streams.err, "\r\x1b[K")
		p.shown = false
	}
}
