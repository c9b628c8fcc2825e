package buildx

import (
	"slices"
	"sync"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Note is a line of our own in buildx's progress, and lines below it. The texts
// must be printable ASCII: the display counts bytes.
type Note struct {
	ID    string // of the line, to show another text there
	Text  string
	Below []string // a line that was there once stays
	Done  bool
}

// Notes are the notes of one run. They reach the display as vertices of the
// build, through the stream that tells of the others: so the one who draws the
// terminal draws them too. Before a stream has told of a vertex, and after the
// last stream has ended, they wait. The zero value is ready.
type Notes struct {
	// Ending is called before the last message of a stream, for last words. It
	// must not wait; nil: nothing.
	Ending func()

	mu      sync.Mutex
	signal  chan struct{} // holds a token while something is to be told
	all     []*note
	streams int
}

type note struct {
	Note
	vertex    string
	started   *timestamppb.Timestamp // by the clock of BuildKit; nil: not told yet
	completed *timestamppb.Timestamp
	told      bool // as it is now
}

// Show puts a note on the screen, or another text in its place. It does not wait.
func (n *Notes) Show(one Note) {
	n.mu.Lock()
	defer n.mu.Unlock()
	i := slices.IndexFunc(n.all, func(o *note) bool { return o.ID == one.ID })
	if i < 0 {
		i = len(n.all)
		n.all = append(n.all, &note{vertex: digest.FromString("buildcage note " + one.ID).String()})
	}
	n.all[i].Note, n.all[i].told = one, false
	n.ring()
}

func (n *Notes) ring() {
	select {
	case n.bell() <- struct{}{}:
	default:
	}
}

// bell is called with the lock held.
func (n *Notes) bell() chan struct{} {
	if n.signal == nil {
		n.signal = make(chan struct{}, 1)
	}
	return n.signal
}

// enter counts a stream in and returns what rings when there is something to take.
func (n *Notes) enter() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.streams++
	return n.bell()
}

// leave counts a stream out. The last one takes the end of all notes with it,
// or the display would not call the build finished; nil: nothing to tell.
func (n *Notes) leave(now func() time.Time) *controlapi.StatusResponse {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.streams--; n.streams > 0 {
		n.ring() // what this one was about to take is for another
		return nil
	}
	for _, one := range n.all {
		if one.started != nil && one.completed == nil {
			one.Done, one.told = true, false
		}
	}
	return n.changes(now)
}

// take returns what was not told yet, nil: nothing.
func (n *Notes) take(now func() time.Time) *controlapi.StatusResponse {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.changes(now)
}

func (n *Notes) changes(now func() time.Time) *controlapi.StatusResponse {
	var out controlapi.StatusResponse
	for _, one := range n.all {
		if one.told || one.started == nil && one.Done && n.streams == 0 {
			continue
		}
		one.told = true
		one.tell(&out, timestamppb.New(now()))
	}
	if out.Vertexes == nil {
		return nil
	}
	return &out
}

// tell adds the note as it is. A vertex keeps its time of start: another one
// would be another interval of it.
func (o *note) tell(out *controlapi.StatusResponse, now *timestamppb.Timestamp) {
	if o.started == nil {
		o.started = now
	}
	switch {
	case !o.Done:
		o.completed = nil
	case o.completed == nil:
		o.completed = now
	}
	out.Vertexes = append(out.Vertexes, &controlapi.Vertex{Digest: o.vertex, Name: o.Text, Started: o.started, Completed: o.completed})
	for _, line := range o.Below {
		out.Statuses = append(out.Statuses, &controlapi.VertexStatus{
			ID: line, Vertex: o.vertex, Timestamp: now, Started: o.started, Completed: o.completed,
		})
	}
}
