package live

import (
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

// pace is the time between two lines: fast enough to follow, slow enough to read.
const pace = 250 * time.Millisecond

// Feed turns records into lines, at once where there was none for a while, and
// a few in a second. Show is required; it must not wait.
type Feed struct {
	Show func(line string)

	after   func(time.Duration, func()) // nil: time.AfterFunc
	mu      sync.Mutex
	counter Counter
	changed bool // since the last line
	resting bool
}

// Hear takes a record.
func (f *Feed) Hear(r *event.Record) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = f.counter.Add(r) || f.changed
	if f.changed && !f.resting {
		f.show()
	}
}

// Flush shows what is not shown yet.
func (f *Feed) Flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.changed {
		f.changed = false
		f.Show(f.counter.String())
	}
}

// show is called with the lock held.
func (f *Feed) show() {
	if !f.changed {
		f.resting = false
		return
	}
	f.changed, f.resting = false, true
	f.Show(f.counter.String())
	after := f.after
	if after == nil {
		after = func(d time.Duration, fn func()) { time.AfterFunc(d, fn) }
	}
	after(pace, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.show()
	})
}
