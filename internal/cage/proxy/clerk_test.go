package proxy

import (
	"sync"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
)

// When the last connection is written down the clerk is closed, however far
// those are who gave it their connections.
func TestClerkEnds(t *testing.T) {
	for range 2000 {
		s := &Server{Record: func(event.Record) {}}
		k := newClerk()
		var adding sync.WaitGroup
		const many = 4
		s.wait.Add(many)
		for range many {
			adding.Go(func() { k.add(&conduit{session: &session{Server: s}, ev: new(event.Conn)}) })
		}
		s.wait.Wait()
		k.close()
		adding.Wait()
	}
}
