package proxy

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxRelays is how many relays share the connections at most.
const maxRelays = 4

// relay carries connections that are decided and dialled: one event loop
// instead of two goroutines for each. A connection that is silent holds two
// sockets, its session and nothing else, and one that talks costs no switch of
// goroutines. The loop waits in Go's own poller, so it occupies no thread.
type relay struct {
	pipes   *pipes
	poll    int // epoll, edge-triggered
	file    *os.File
	done    chan struct{}
	clerk   *clerk
	scratch [bufSize]byte // what is taken from one socket and fits into the other at once

	connecting atomic.Int64 // riders that are
	mu         sync.Mutex
	closed     bool
	carried    []rider // by slot
	free       []int32 // slots
	number     int32   // of the last one that was added

	events [256]unix.EpollEvent
	busy   []rider // had more to move than one turn allows
}

// rider is what has descriptors on a relay.
type rider interface {
	// ready takes notice of an event, and says whether there is more to move.
	ready(r *relay, side int, events uint32) bool
	move(r *relay) bool
	at() *seat
}

// seat is where a rider is; the relay's lock guards it.
type seat struct {
	slot, number int32
	added        bool
}

func (s *seat) at() *seat { return s }

func newRelay(p *pipes) (*relay, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating a relay: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil { // that is how os takes it for something to poll
		unix.Close(fd)
		return nil, fmt.Errorf("creating a relay: %w", err)
	}
	r := &relay{pipes: p, poll: fd, file: os.NewFile(uintptr(fd), "relay"), done: make(chan struct{})}
	raw, err := r.file.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("creating a relay: %w", err), r.file.Close())
	}
	r.clerk = newClerk()
	go func() {
		defer close(r.done)
		_ = raw.Read(func(uintptr) bool { r.turn(); return false }) // until close
	}()
	return r, nil
}

// close ends the loop. There must be no connections left.
func (r *relay) close() {
	r.mu.Lock()
	again := r.closed
	r.closed = true
	r.mu.Unlock()
	if again {
		return
	}
	r.file.Close()
	<-r.done
	r.clerk.close()
}

// add begins to carry c. Its first events come at once.
func (r *relay) add(c *conduit) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return os.ErrClosed
	}
	r.seat(c)
	for side, e := range c.ends {
		event := r.event(&c.seat, side)
		if err := watch(r.poll, e.fd, e.watched, &event); err != nil {
			return fmt.Errorf("adding to a relay: %w", err)
		}
	}
	return nil
}

// await tells w when there is something to read from fd, and when more has come.
func (r *relay) await(w *waiter, fd int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return os.ErrClosed
	}
	r.seat(w)
	event := r.event(&w.seat, clientEnd)
	event.Events = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	if err := watch(r.poll, fd, false, &event); err != nil {
		return fmt.Errorf("adding to a relay: %w", err)
	}
	return nil
}

// seat gives x a slot. mu is held.
func (r *relay) seat(x rider) {
	s := x.at()
	r.number++
	s.added, s.number = true, r.number
	if n := len(r.free); n > 0 {
		s.slot, r.free = r.free[n-1], r.free[:n-1]
		r.carried[s.slot] = x
		return
	}
	s.slot = int32(len(r.carried))
	r.carried = append(r.carried, x)
}

// event is what there is to know of an end, with whose it is.
func (*relay) event(s *seat, side int) unix.EpollEvent {
	return unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLPRI | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     s.slot<<1 | int32(side), Pad: s.number,
	}
}

// overdue ends the connections whose origins have not answered by now.
func (r *relay) overdue(now time.Time) {
	if r.connecting.Load() == 0 {
		return
	}
	r.mu.Lock()
	var list []*conduit
	for _, x := range r.carried {
		if c, ok := x.(*conduit); ok {
			list = append(list, c)
		}
	}
	r.mu.Unlock()
	for _, c := range list {
		c.tooLate(now)
	}
}

// whose is the rider of an event, nil when it is gone: an event that is still
// on its way is not one of who has its slot now.
func (r *relay) whose(e unix.EpollEvent) rider {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x := r.carried[e.Fd>>1]; x != nil && x.at().number == e.Pad {
		return x
	}
	return nil
}

// remove forgets x, whose sockets are closed or given away.
func (r *relay) remove(x rider) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := x.at()
	if !s.added {
		return
	}
	s.added = false
	r.carried[s.slot] = nil
	r.free = append(r.free, s.slot)
}

// turn serves what is ready, until nothing is. What becomes ready meanwhile
// makes Go's poller call again.
func (r *relay) turn() {
	for {
		n, err := polled(r.poll, r.events[:])
		if err != nil {
			n = 0 // closed
		}
		for _, e := range r.events[:n] {
			if x := r.whose(e); x != nil && x.ready(r, int(e.Fd&1), e.Events) {
				r.busy = append(r.busy, x)
			}
		}
		busy := r.busy
		r.busy = nil
		for _, x := range busy {
			if x.move(r) {
				r.busy = append(r.busy, x)
			}
		}
		if len(r.busy) > 0 {
			runtime.Gosched()
			continue
		}
		if n < len(r.events) {
			return
		}
	}
}
