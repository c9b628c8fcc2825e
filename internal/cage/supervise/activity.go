package supervise

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
)

// errIdle ends a cage that nobody builds in.
var errIdle = errors.New("idle")

// activity knows whether somebody builds. The zero value counts, and never ends
// anything.
type activity struct {
	mu     sync.Mutex
	now    int
	total  int
	up     time.Time
	idle   time.Time // since when nobody builds
	limit  time.Duration
	timer  *time.Timer
	ending context.CancelCauseFunc
	first  func() // is called before a build comes when there is none; nil: nothing is
}

// begin starts the time without a build.
func (a *activity) begin(config contract.Boot, end context.CancelCauseFunc) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.up = time.Now()
	a.idle = a.up
	if config.Linger {
		a.limit, a.ending = config.Idle, end
	}
	a.wait()
}

// wait ends the cage when nobody comes in time. The lock is held.
func (a *activity) wait() {
	if a.limit <= 0 {
		return
	}
	a.timer = time.AfterFunc(a.limit, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.now == 0 && time.Since(a.idle) >= a.limit {
			a.ending(errIdle)
		}
	})
}

// enter counts a build until it leaves.
func (a *activity) enter() (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.now == 0 && a.first != nil {
		a.first()
	}
	a.now++
	a.total++
	a.idle = time.Time{}
	if a.timer != nil {
		a.timer.Stop()
	}
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.now--; a.now == 0 {
			a.idle = time.Now()
			a.wait()
		}
	}
}

func (a *activity) inventory() contract.Inventory {
	a.mu.Lock()
	defer a.mu.Unlock()
	return contract.Inventory{Builds: a.now, Total: a.total, Since: a.up, Idle: a.idle}
}
