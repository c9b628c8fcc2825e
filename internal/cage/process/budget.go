package process

import "time"

const (
	share = 20                     // passes may take one part in share of a processor,
	burst = 300 * time.Millisecond // and so much at once
)

// budget is the breaker for floods: a bucket of processor time for passes.
// When it is empty, only the processes that were found before are looked at.
type budget struct {
	left time.Duration
	last time.Time
}

func newBudget() budget { return budget{left: burst, last: time.Now()} }

// ok says whether there is time for a whole pass.
func (b *budget) ok(now time.Time) bool {
	b.left = min(burst, b.left+now.Sub(b.last)/share)
	b.last = now
	return b.left > 0
}

func (b *budget) spend(d time.Duration) { b.left = max(-burst, b.left-d) }
