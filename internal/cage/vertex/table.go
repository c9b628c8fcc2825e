package vertex

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Table holds the vertices and spans of the cage. The zero value is ready.
// Memory is bounded: the oldest spans and completed builds are forgotten first,
// and a build is known from its beginning to its end, not because somebody
// speaks of it.
type Table struct {
	mu      sync.Mutex
	builds  map[string]*build
	order   []string          // refs, oldest first
	spans   map[string]string // span id → vertex digest
	spanAge []string
	waiting map[string][]chan string
	early   []early // imports of builds that have not begun, oldest first
}

type build struct {
	vertices map[string]Vertex
	done     bool
	imports  bool              // results may come from a cache elsewhere
	pushed   map[string]string // image, by the digest of the vertex that pushes it
}

// early is a build that says where it takes results from before it begins:
// BuildKit lets a frontend's call wait for its build, for three seconds.
type early struct {
	ref  string
	when time.Time
}

const (
	maxBuilds = 256
	maxSpans  = 16384
	maxEarly  = 256
	// earlyTime is how long such a build has to begin.
	earlyTime = time.Minute
)

// Begin lets a build in; Done ends it.
func (t *Table) Begin(ref string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.build(ref)
	b.done = false
	if i := slices.IndexFunc(t.early, func(e early) bool { return e.ref == ref }); i >= 0 {
		b.imports = true
		t.early = slices.Delete(t.early, i, i+1)
	}
}

// Observe stores what is known of v now and returns what was known before.
func (t *Table) Observe(v Vertex) (before Vertex, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.build(v.Build)
	before, known = b.vertices[v.Digest]
	b.vertices[v.Digest] = v
	return before, known
}

func (t *Table) build(ref string) *build {
	if b := t.builds[ref]; b != nil {
		return b
	}
	if t.builds == nil {
		t.builds = make(map[string]*build)
	}
	for i := 0; len(t.order) >= maxBuilds && i < len(t.order); {
		if old := t.order[i]; t.builds[old].done {
			delete(t.builds, old)
			t.order = append(t.order[:i], t.order[i+1:]...)
			continue
		}
		i++
	}
	b := &build{vertices: make(map[string]Vertex)}
	t.builds[ref] = b
	t.order = append(t.order, ref)
	return b
}

// Imports notes that the build takes results from a cache elsewhere. It reports
// false when there is no room for one more build that has not begun: the call
// that says so must not pass.
func (t *Table) Imports(ref string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.builds[ref]; b != nil {
		b.imports = true
		return true
	}
	now := time.Now()
	t.early = slices.DeleteFunc(t.early, func(e early) bool { return now.Sub(e.when) > earlyTime })
	if slices.ContainsFunc(t.early, func(e early) bool { return e.ref == ref }) {
		return true
	}
	if len(t.early) >= maxEarly {
		return false
	}
	t.early = append(t.early, early{ref, now})
	return true
}

// Importing reports whether the build takes results from a cache elsewhere, or
// may: who is not known any more does.
func (t *Table) Importing(ref string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.builds[ref]
	return b == nil || b.imports
}

// push notes what a vertex pushes; the status of a vertex does not say.
func (t *Table) push(ref, digest, image string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.build(ref)
	if b.pushed == nil {
		b.pushed = make(map[string]string)
	}
	b.pushed[digest] = image
}

func (t *Table) pushes(ref, digest string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.builds[ref]; b != nil {
		return b.pushed[digest]
	}
	return ""
}

// Done says that the build has ended; its vertices may be forgotten.
func (t *Table) Done(ref string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if b := t.builds[ref]; b != nil {
		b.done = true
	}
}

// Pending returns the vertices that have not completed, of all builds that go
// on. Whatever runs is among them, also before its start was heard of: BuildKit
// announces all vertices of a build when it loads them.
func (t *Table) Pending() []Vertex {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Vertex
	for _, ref := range t.order {
		if t.builds[ref].done {
			continue
		}
		for _, v := range t.builds[ref].vertices {
			if v.Completed.IsZero() {
				all = append(all, v)
			}
		}
	}
	return all
}

// Going are the builds that have not ended.
func (t *Table) Going() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(t.order), func(ref string) bool { return t.builds[ref].done })
}

// ByDigest returns every build's vertex with that digest. More than one means
// that builds share it: BuildKit runs a shared vertex once.
func (t *Table) ByDigest(digest string) []Vertex {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []Vertex
	for _, ref := range t.order {
		if v, ok := t.builds[ref].vertices[digest]; ok {
			all = append(all, v)
		}
	}
	return all
}

// Span stores which vertex a trace span ran.
func (t *Table) Span(id, digest string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.spans == nil {
		t.spans = make(map[string]string)
	}
	if _, ok := t.spans[id]; !ok {
		t.spanAge = append(t.spanAge, id)
	}
	t.spans[id] = digest
	for len(t.spanAge) > maxSpans {
		delete(t.spans, t.spanAge[0])
		t.spanAge = t.spanAge[1:]
	}
	for _, w := range t.waiting[id] {
		w <- digest
	}
	delete(t.waiting, id)
}

// AwaitSpan returns the digest of the vertex that span id ran. It waits for at
// most limit: spans are reported when they end.
func (t *Table) AwaitSpan(ctx context.Context, id string, limit time.Duration) (digest string, ok bool) {
	t.mu.Lock()
	if d, ok := t.spans[id]; ok {
		t.mu.Unlock()
		return d, true
	}
	if t.waiting == nil {
		t.waiting = make(map[string][]chan string)
	}
	w := make(chan string, 1)
	t.waiting[id] = append(t.waiting[id], w)
	t.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case d := <-w:
		return d, true
	case <-ctx.Done():
		t.forgetWaiter(id, w)
		return "", false
	}
}

func (t *Table) forgetWaiter(id string, w chan string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	kept := t.waiting[id][:0]
	for _, c := range t.waiting[id] {
		if c != w {
			kept = append(kept, c)
		}
	}
	if t.waiting[id] = kept; len(kept) == 0 {
		delete(t.waiting, id)
	}
}
