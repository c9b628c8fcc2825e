// Package process finds out which process in a step opened a connection.
//
// The kernel says which socket in the step's network namespace belongs to the
// connection, and one pass over the file descriptors of the step's processes
// says who holds that socket. The answer is the process that holds the
// connection when the proxy accepts it. Its rules:
//
//   - The right process or none. Processes are looked at through directories
//     of /proc that stay open, so that an id that was used again can't be taken
//     for its former owner; what was read is read again before it is said.
//   - Where several processes hold the socket, those that are younger than the
//     connection inherited it and don't count. Of the others the answer is the
//     closest common ancestor, and the note says how many share it.
//   - A process that is gone is reported as gone, with what is known of the
//     others. One that handed its socket over and closed it is not known any more:
//     then the receiver is the answer, because it is the one that talks.
//   - A lookup costs the connection nothing: it runs beside it. All lookups
//     together cost a bounded share of one processor.
package process

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/event"
)

// Notes on an answer that is not simply a process.
const (
	NoteClosed   = "closed before it could be looked up"
	NoteNobody   = "no process of the step holds the connection"
	NoteLeft     = "exited after the connection was opened"
	NoteChanging = "was replaced while it was looked at"
	NoteLate     = "not looked up in time"
	NoteBusy     = "not looked up: too many connections at once"
	NoteEnded    = "the step has ended"
	NoteBlind    = "the step's sockets can't be listed"
	NotePartly   = "others may share the connection"
	NoteMaybe    = "may have inherited the connection"
)

// patience is how long a lookup may take. It is longer than a connection ever
// waits for it: a machine that compiles on all processors is slow to answer,
// and most connections are recorded when they end.
const patience = 250 * time.Millisecond

// maxWaiting is how many lookups may wait for the next pass.
const maxWaiting = 512

// Finder looks processes up. Its methods may be called from any goroutine.
type Finder struct {
	log *slog.Logger

	mu      sync.Mutex
	steps   map[*step.Step]*space
	waiting []*search
	running bool
	closed  bool
	idle    sync.Cond // no pass is running

	paused atomic.Int64 // until when nothing is looked up, in nanoseconds since 1970

	scan   sync.Mutex // held during a pass; guards what follows
	table  *table
	budget budget
}

// New prepares lookups in the processes that /proc shows.
func New(log *slog.Logger) (*Finder, error) {
	t, err := openTable("/proc")
	if err != nil {
		return nil, err
	}
	f := &Finder{log: log, steps: make(map[*step.Step]*space), table: t, budget: newBudget(time.Now(), cageTime())}
	f.idle.L = &f.mu
	// The first question of all makes the kernel load a module.
	if s, err := dialDiag(0); err != nil {
		log.Warn("connections can't be linked to processes", "error", err)
	} else {
		_, _ = s.inode(netip.MustParseAddrPort("127.0.0.1:1"), netip.MustParseAddrPort("127.0.0.1:1"))
		s.close()
	}
	return f, nil
}

// Add makes the connections of s known. It costs nothing until there is one.
func (f *Finder) Add(s *step.Step) {
	if s.NetNS == "" {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.steps[s] = &space{path: s.NetNS}
}

// Forget closes what is open for a step that has ended.
func (f *Finder) Forget(s *step.Step) {
	f.mu.Lock()
	sp := f.steps[s]
	delete(f.steps, s)
	f.mu.Unlock()
	if sp != nil {
		sp.close()
	}
}

// Close ends all lookups.
func (f *Finder) Close() {
	f.mu.Lock()
	f.closed = true
	for f.running {
		f.idle.Wait()
	}
	steps := f.steps
	f.steps = nil
	f.mu.Unlock()
	for _, sp := range steps {
		sp.close()
	}
	f.scan.Lock()
	defer f.scan.Unlock()
	f.table.close()
}

// Find says who in s opened the accepted connection fd, from client and meant
// for server. It is called as soon as the connection was accepted, takes down what
// only fd can tell, and returns the lookup itself, which answers within
// patience, or the answer where that takes no looking. Both are nil where no process
// can be known: for what is no step, or has no network of its own.
func (f *Finder) Find(s *step.Step, fd int, client, server netip.AddrPort) (look func() *event.Process, known *event.Process) {
	if s == nil || s.NetNS == "" {
		return nil, nil
	}
	if time.Now().UnixNano() < f.paused.Load() {
		return nil, &event.Process{Note: NoteBusy}
	}
	born, from := opened(fd), unmapped(client)
	return func() *event.Process { return f.lookUp(s, from, server, born) }, nil
}

func (f *Finder) lookUp(s *step.Step, from, server netip.AddrPort, born uint64) *event.Process {
	late := time.NewTimer(patience)
	defer late.Stop()
	f.mu.Lock()
	sp := f.steps[s]
	f.mu.Unlock()
	if sp == nil {
		return &event.Process{Note: NoteEnded}
	}
	for tries := 0; ; tries++ {
		inode, err := sp.inode(from, server)
		switch {
		case errors.Is(err, errNoSocket):
			return &event.Process{Gone: true, Note: NoteClosed}
		case err != nil:
			f.log.Debug("asking for a socket", "step", s.ID, "error", err)
			return &event.Process{Note: NoteBlind}
		}
		p := f.ask(&search{space: sp, inode: inode, born: born, answer: make(chan *event.Process, 1)}, late.C)
		if !fleeting(p) || tries == maxTries {
			return p
		}
		select {
		case <-time.After(time.Millisecond):
		case <-late.C:
			return p
		}
	}
}

// maxTries is how often an answer that may be better in a moment is asked for again.
const maxTries = 3

// fleeting says that a process was executing something new just then, or that
// the connection was on its way from one to another.
func fleeting(p *event.Process) bool {
	return !p.Gone && (p.Note == NoteChanging || p.Note == NoteNobody)
}

// ask waits for the answer to q.
func (f *Finder) ask(q *search, late <-chan time.Time) *event.Process {
	if !f.enqueue(q) {
		return &event.Process{Note: NoteBusy}
	}
	select {
	case p := <-q.answer:
		return p
	case <-late:
		return &event.Process{Note: NoteLate}
	}
}

// enqueue hands q to the next pass, which is started if there is none.
func (f *Finder) enqueue(q *search) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || len(f.waiting) >= maxWaiting {
		return false
	}
	f.waiting = append(f.waiting, q)
	if !f.running {
		f.running = true
		go f.run()
	}
	return true
}

// run makes passes until nobody waits. One pass serves all that wait for it.
func (f *Finder) run() {
	for {
		f.mu.Lock()
		batch := f.waiting
		f.waiting = nil
		if len(batch) == 0 {
			f.running = false
			f.idle.Broadcast()
			f.mu.Unlock()
			return
		}
		f.mu.Unlock()
		f.pass(batch)
	}
}
