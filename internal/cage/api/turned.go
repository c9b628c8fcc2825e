package api

import (
	"slices"
	"sync"
)

// maxTurned is how many refused builds are remembered.
const maxTurned = 256

// turned are the builds that were turned away. BuildKit never hears of them,
// and would let a client that asks for their status wait for seconds. The zero
// value is ready.
type turned struct {
	mu      sync.Mutex
	refs    []string // the latest
	waiting map[string][]chan struct{}
}

// add notes a refused build and ends what waits for it.
func (t *turned) add(ref string) {
	if ref == "" {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.refs) >= maxTurned {
		t.refs = t.refs[1:]
	}
	t.refs = append(t.refs, ref)
	for _, w := range t.waiting[ref] {
		close(w)
	}
	delete(t.waiting, ref)
}

// await returns a channel that is closed once ref is refused, and what ends
// the waiting.
func (t *turned) await(ref string) (refused <-chan struct{}, stop func()) {
	w := make(chan struct{})
	t.mu.Lock()
	defer t.mu.Unlock()
	if slices.Contains(t.refs, ref) {
		close(w)
		return w, func() {}
	}
	if t.waiting == nil {
		t.waiting = make(map[string][]chan struct{})
	}
	t.waiting[ref] = append(t.waiting[ref], w)
	return w, func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		rest := slices.DeleteFunc(t.waiting[ref], func(c chan struct{}) bool { return c == w })
		if t.waiting[ref] = rest; len(rest) == 0 {
			delete(t.waiting, ref)
		}
	}
}
