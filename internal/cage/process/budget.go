package process

import (
	"time"

	"golang.org/x/sys/unix"
)

const (
	share = 200                    // passes may take one part in share of a processor,
	part  = 100                    // one part in part of what the cage uses itself,
	burst = 300 * time.Millisecond // so much at once,
	debt  = time.Millisecond       // and so much beyond that with half a look
	// asking is about what it takes to ask the kernel for one socket.
	asking = 20 * time.Microsecond
)

// budget is the breaker for floods: a bucket of processor time for passes.
// When it is empty, only the processes that were found before are looked at;
// when that has made a debt, nobody is until it is paid. A process that opens
// thousands of connections a second is known from the first ones. On a busy
// machine the cage gets little time, and passes must not take most of it: that
// is why what the cage uses counts, and not the time of day alone.
type budget struct {
	left time.Duration
	last time.Time
	used time.Duration // by the cage, at last
}

func newBudget(now time.Time, used time.Duration) budget { return budget{burst, now, used} }

// ok says whether there is time for a whole pass, when the cage has used so much.
func (b *budget) ok(now time.Time, used time.Duration) bool {
	b.left = min(burst, b.left+now.Sub(b.last)/share+(used-b.used)/part)
	b.last, b.used = now, used
	return b.left > 0
}

// pause is for how long nothing may be looked up: not until the debt is paid,
// which happens the sooner the more the cage has to do.
func (b *budget) pause() time.Duration {
	if b.left > -debt {
		return 0
	}
	return min(-b.left*part, longest)
}

// longest is the longest pause: then it is looked at again what was used.
const longest = 500 * time.Millisecond

func (b *budget) spend(d time.Duration) { b.left = max(-burst, b.left-d) }

// cageTime is the processor time that the cage's first process has used.
func cageTime() time.Duration {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &ts) != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
