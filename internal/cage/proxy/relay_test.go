package proxy

import (
	"testing"

	"golang.org/x/sys/unix"
)

// An event of a connection that is gone is not one of who has its slot now:
// it would be taken for connected before it is.
func TestStaleEvent(t *testing.T) {
	r, err := newRelay(new(pipes))
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	carry := func() *conduit {
		c := &conduit{session: &session{}, on: r}
		for i := range c.ends {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			c.ends[i].fd = fd
		}
		c.mu.Lock() // the relay gets events of it, and waits
		if err := r.add(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	end := func(c *conduit) {
		c.finish(true)
		c.mu.Unlock()
	}
	first := carry()
	event := r.event(&first.seat, originEnd)
	if r.whose(event) != first {
		t.Error("an event is nobody's")
	}
	end(first)
	second := carry()
	defer end(second)
	if second.slot != first.slot {
		t.Fatalf("slot %d is not used again, but %d", first.slot, second.slot)
	}
	if r.whose(event) != nil {
		t.Error("an event of the first is taken for one of the second")
	}
}
