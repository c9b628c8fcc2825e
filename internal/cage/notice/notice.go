// Package notice tells a running step, in its own log output, what the cage
// refused it: one line a destination, at once, for whatever client builds.
//
// Its rules: nobody who posts ever waits; what has no room is counted and told
// at the end; a line holds nothing but printable characters.
package notice

import (
	"fmt"
	"sync"
)

const (
	// Most is how many lines a step gets, the last one that counts the others
	// not included.
	Most = 20
	// longest is what one line may be: well below what a pipe takes in one piece.
	longest = 600
)

// Board holds the lines of the running steps. The zero value is ready.
type Board struct {
	mu    sync.Mutex
	steps map[string]*queue
}

type queue struct {
	lines chan string // closed at the end of the step
	said  map[string]struct{}
	more  int
}

// Open starts a step.
func (b *Board) Open(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.steps == nil {
		b.steps = make(map[string]*queue)
	}
	b.steps[id] = &queue{lines: make(chan string, Most+1), said: make(map[string]struct{})}
}

// Lines are those of a running step, until it is closed; nil for any other.
func (b *Board) Lines(id string) <-chan string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if q := b.steps[id]; q != nil {
		return q.lines
	}
	return nil
}

// Post adds a line for a step, which may have ended. It never waits. A line
// that was said already is only counted.
func (b *Board) Post(id, line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.steps[id]
	if q == nil || line == "" {
		return
	}
	if _, again := q.said[line]; again || len(q.said) >= Most {
		q.more++
		return
	}
	q.said[line] = struct{}{}
	q.lines <- line // there is room for Most and the last
}

// Close ends a step. What was posted can still be read.
func (b *Board) Close(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	q := b.steps[id]
	if q == nil {
		return
	}
	delete(b.steps, id)
	if q.more > 0 {
		q.lines <- fmt.Sprintf("buildcage: and %d more refused in this step; the report has them all", q.more)
	}
	close(q.lines)
}
