package main

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// gate holds steps until the harness lets them go.
type gate struct {
	mu      sync.Mutex
	waiting int
	come    chan struct{} // closed when somebody waits
	open    chan struct{} // closed to let them go
}

func newGate() *gate { return &gate{come: make(chan struct{}), open: make(chan struct{})} }

// wait is what a step calls.
func (g *gate) wait(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.waiting++
	if g.waiting == 1 {
		close(g.come)
	}
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
		fmt.Fprintln(w, "go on")
	case <-r.Context().Done():
		g.mu.Lock()
		defer g.mu.Unlock()
		if open == g.open { // it gave up before it was let go
			if g.waiting--; g.waiting == 0 {
				g.come = make(chan struct{})
			}
		}
	}
}

// told answers the harness with the number of waiting steps, as soon as there
// is one, or 0 after a second.
func (g *gate) told(w http.ResponseWriter, _ *http.Request) {
	g.mu.Lock()
	come := g.come
	g.mu.Unlock()
	select {
	case <-come:
	case <-time.After(time.Second):
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	fmt.Fprintln(w, g.waiting)
}

// release lets everybody go and closes the gate again.
func (g *gate) release(http.ResponseWriter, *http.Request) {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
	g.waiting, g.come, g.open = 0, make(chan struct{}), make(chan struct{})
}
