// Package proxy is the one way out of the cage. Every TCP connection of a step
// and of the builder ends here; the proxy finds out what it is for, asks the
// policy, and only then resolves and dials.
//
// Its rules: no byte goes upstream before the verdict; the dialled address is
// one that upstream resolved for the judged name and checked; a TLS first byte
// is never judged as anything but TLS; HTTP is parsed and issued anew, one
// verdict a request; every connection and request leaves exactly one event,
// whatever became of it; a refusal is immediate and says why where the
// protocol has words for it.
package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/upstream"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Server is the proxy. The fields down to Record are required; none may change after Serve.
type Server struct {
	Steps *step.Table
	// Builder says who judges the builder's own traffic to a destination that was
	// given the name; its ID is event.BuilderStep, its scope may be another at any time.
	Builder func(name string) *step.Step
	// Own says whether an address is one of the cage's own: its traffic is the builder's.
	Own func(netip.Addr) bool
	// NameOf is the nameserver's memory: the name that it gave a fake address for.
	NameOf func(netip.Addr) (string, bool)
	Dialer *upstream.Dialer
	Record func(event.Record)

	// Process says how to look up who opened a connection, whose end here is fd,
	// between the given addresses; nil, or nil answers, leave it out of the record. The
	// lookup that it returns runs beside the connection, which may end meanwhile.
	Process func(st *step.Step, fd int, client, server netip.AddrPort) (look func() *event.Process, known *event.Process)
	// Ask holds a connection that no rule allows until somebody has said whether
	// it may pass, or ctx ends; nil: nobody is asked, and it is refused at once.
	Ask func(ctx context.Context, st *step.Step, t policy.Target, ev *event.Conn) (asked, allowed bool)
	// Original returns the destination that the client dialled, whose connection
	// ends here as fd; nil: SO_ORIGINAL_DST.
	Original func(fd int, client netip.AddrPort) (netip.AddrPort, error)
	Limits   Limits
	Logger   *slog.Logger // diagnostics; nil: none

	// Panics counts connections that ended in a bug of ours.
	Panics atomic.Int64

	once     sync.Once
	life     context.Context // of all connections; ends when Drain runs out of patience
	kill     context.CancelFunc
	ledger   ledger
	fetched  meter
	pipes    pipes
	relays   []*relay
	dismiss  func()        // those who rest
	turn     atomic.Uint32 // of the relays
	requests atomic.Int64  // of HTTP that are being served
	failed   error         // to prepare
	wait     sync.WaitGroup
	next     chan *peer // to who rests; closed at the end
	resting  resters
}

func (s *Server) prepare() {
	s.once.Do(func() {
		s.Limits.fill(openFiles())
		s.pipes.most = s.Limits.Pipes
		if s.Original == nil {
			s.Original = original
		}
		if s.Logger == nil {
			s.Logger = slog.New(slog.DiscardHandler)
		}
		s.next = make(chan *peer, maxResting)
		s.life, s.kill = context.WithCancel(context.Background())
		s.dismiss = sync.OnceFunc(func() { close(s.next) })
		for range min(runtime.GOMAXPROCS(0), maxRelays) {
			r, err := newRelay(&s.pipes)
			if err != nil {
				s.failed = err
				return
			}
			s.relays = append(s.relays, r)
		}
	})
}

// Serve accepts until ctx ends or a listener fails, and closes the listeners.
// Open connections go on; see Drain. It returns nil when ctx ended.
func (s *Server) Serve(ctx context.Context, listeners ...net.Listener) error {
	if s.prepare(); s.failed != nil {
		return s.failed
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		for _, l := range listeners {
			l.Close()
		}
	})
	defer stop()
	go s.sweep(ctx)
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		go func() { failed <- s.accept(ctx, l) }()
	}
	var first error
	for range listeners {
		if err := <-failed; err != nil && first == nil {
			first = err
		}
		cancel()
	}
	return first
}

// drainQuiet is how long a connection must be silent to count as done when
// the cage ends: clients keep unused connections open for minutes.
const drainQuiet = 100 * time.Millisecond

// Drain waits until every connection has ended and its events are recorded.
// It cuts the ones that have gone quiet and, when ctx ends, all that are left.
// Call it after Serve has returned.
func (s *Server) Drain(ctx context.Context) {
	s.prepare()
	done := make(chan struct{})
	go func() {
		s.wait.Wait()
		close(done)
	}()
	tick := time.NewTicker(drainQuiet)
	defer tick.Stop()
	for seen := (map[*session]int64)(nil); ; {
		select {
		case <-done:
			for _, r := range s.relays {
				r.close()
			}
			s.pipes.close()
			s.kill()
			s.dismiss()
			return
		case <-ctx.Done():
			s.kill()
			s.ledger.each(func(c *session) { c.cut(reasonDrained) })
			<-done
		case <-tick.C:
			seen = s.cutQuiet(seen)
		}
	}
}

// cutQuiet cuts the connections that have not moved a byte since seen, and
// returns where the others are now.
func (s *Server) cutQuiet(seen map[*session]int64) map[*session]int64 {
	now := make(map[*session]int64)
	s.ledger.each(func(c *session) {
		total := c.up.Load() + c.down.Load()
		if before, ok := seen[c]; ok && before == total {
			c.cut(reasonDrained)
			return
		}
		now[c] = total
	})
	return now
}
