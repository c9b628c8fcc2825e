// Package nameserver answers every question of a step by itself: it gives each
// host name its own fake address and forwards nothing, so that asking for a
// name tells nobody anything. The proxy learns from the fake address which
// name was meant.
//
// Everything that is not the address of a host name gets the answer that makes
// resolvers go on at once: no data, no such name, refused. Queries are hostile:
// their number, size and state are bounded per step.
package nameserver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
)

// UnknownStep is the step of an address that no step owns. It gets no answers.
const UnknownStep = "unknown"

// Server answers queries. Its fields must not change while it serves.
type Server struct {
	Pool   *Pool
	Steps  *step.Table
	Record func(event.Record) // once per query; must not block for long
	IPv6   bool               // steps have IPv6: AAAA gets an address
	// Own says that an address is the cage's own: such queries are the
	// builder's, and such a server address is not a foreign resolver. Nil: none is.
	Own func(netip.Addr) bool

	limiter limiter
	slots   connSlots
	idle    time.Duration // 0: idleTimeout
}

// Serve answers on the given sockets, one of which may be nil, until ctx ends;
// then it returns nil. It closes both. It may run several times at once.
func (s *Server) Serve(ctx context.Context, udp *net.UDPConn, tcp net.Listener) error {
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	ended := make(chan error, 1)
	run := func(f func() error) {
		wg.Go(func() {
			select {
			case ended <- f():
			default: // not the first
			}
			cancel()
		})
	}
	if udp != nil {
		defer context.AfterFunc(inner, func() { udp.Close() })()
		enlarge(udp)
		for range runtime.GOMAXPROCS(0) {
			run(func() error { return s.serveUDP(udp) })
		}
	}
	if tcp != nil {
		defer context.AfterFunc(inner, func() { tcp.Close() })()
		run(func() error { return s.serveTCP(inner, tcp) })
	}
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serving names: %w", <-ended)
}

// asker is who sent a query.
type asker struct {
	step    string
	foreign netip.Addr // the resolver that was asked, if not ours
}

func (s *Server) asker(from netip.Addr) asker {
	from = from.Unmap()
	if st := s.Steps.Lookup(from); st != nil {
		return asker{step: st.ID}
	}
	if s.own(from) {
		return asker{step: event.BuilderStep}
	}
	return asker{step: UnknownStep}
}

func (s *Server) own(a netip.Addr) bool {
	return a == contract.Listen4 || a == contract.Listen6 || s.Own != nil && s.Own(a)
}

// record notes what became of a query of who.
func (s *Server) record(who asker, d event.DNS) {
	d.Step, d.Foreign = who.step, who.foreign
	s.Record(event.Record{Kind: event.KindDNS, DNS: &d})
}
