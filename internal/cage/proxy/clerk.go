package proxy

import "sync"

// clerk writes down the connections of a relay that have ended. Writing to a
// file may have to wait for a disk that a build keeps busy; what is still moving
// must not wait with it.
type clerk struct {
	mu   sync.Mutex
	list []*conduit
	more chan struct{} // holds one at most; closed at the end
}

func newClerk() *clerk {
	k := &clerk{more: make(chan struct{}, 1)}
	go k.run()
	return k
}

// add gives the clerk a connection. There are never more of them than may be
// open: one counts as that until it is written down, which may be when mu is
// free again, and the end of the clerk.
func (k *clerk) add(c *conduit) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.list = append(k.list, c)
	select {
	case k.more <- struct{}{}:
	default:
	}
}

func (k *clerk) run() {
	var list []*conduit
	for range k.more {
		k.mu.Lock()
		list, k.list = k.list, list[:0]
		k.mu.Unlock()
		for i, c := range list {
			c.write()
			list[i] = nil
		}
	}
}

// close ends the clerk. Everything must be written down.
func (k *clerk) close() { close(k.more) }
