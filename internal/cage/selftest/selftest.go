// Package selftest tries the cage before anything runs in it. From a network
// of its own, made like a step's, it does what a hostile step does first; what it
// sees, and what the cage recorded of it, must be what a closed cage gives:
//
//	TCP to a foreign address   taken by the proxy, refused, recorded under the step
//	UDP to a foreign address   refused at once, recorded under the step
//	questions, to the cage's nameserver and to a foreign one: answered by the
//	cage with an address that stands for the name
//	TCP and UDP of the builder  taken by the proxy and refused; refused
//
// over both families. Whatever weakens one of these at the start (rules that
// somebody else put into the namespace, a kernel that takes a rule and does not
// apply it, a part that listens nowhere) fails the start instead of a promise.
//
// Its destination is an address that no policy opens and that no network routes.
package selftest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/event"
)

// Step is the id that the test's network has to have as a step.
const Step = "self-test"

// Name is what it looks up.
const Name = "self-test.example"

// target4 is the dummy address of RFC 7600, target6 the same behind NAT64.
// Both are guarded.
func target4() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 0, 8}) }

func target6() netip.Addr { return netip.MustParseAddr("64:ff9b::c000:8") }

// Test is one self-test. Register is required.
type Test struct {
	IPv6 bool
	// Register makes the network namespace at path the network of the step
	// with the id Step, and returns how to undo that.
	Register func(path string) (undo func(), err error)

	mu    sync.Mutex
	over  bool
	seen  []event.Record
	added chan struct{} // closed and replaced when seen grows
}

// Error is a control that does not hold.
type Error struct {
	Control string
	Err     error
}

func (e *Error) Error() string { return e.Control + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Hint says where to look: what the cage itself set up is as it always is.
func (e *Error) Hint() string {
	return "something outside of the cage changes the network of containers, or this kernel does not apply the rules it took; buildcage does not build without them"
}

// Take takes what was recorded, and reports whether it is the test's. While the
// test runs everything is, for there is nobody else yet; behind it only what a
// kernel says by itself, while the test's link goes down.
func (t *Test) Take(r event.Record) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return r.Drop != nil && r.Drop.Noise()
	}
	t.seen = append(t.seen, r)
	if t.added != nil {
		close(t.added)
		t.added = nil
	}
	return true
}

// patience is how long one control may take to show.
const patience = 2 * time.Second

// recorded waits for a record.
func (t *Test) recorded(ctx context.Context, match func(event.Record) bool) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		t.mu.Lock()
		for _, r := range t.seen {
			if match(r) {
				t.mu.Unlock()
				return nil
			}
		}
		if t.added == nil {
			t.added = make(chan struct{})
		}
		added := t.added
		t.mu.Unlock()
		select {
		case <-added:
		case <-ctx.Done():
			return fmt.Errorf("it is not in the record as it should be")
		}
	}
}

// control is one thing that has to hold. do runs in the network of the step,
// or of the cage.
type control struct {
	name     string
	cage     bool
	do       func() error
	recorded func(event.Record) bool
}

// Run does the test. What it made is there until clean has run, which takes
// tens of milliseconds; clean is never nil.
func (t *Test) Run(ctx context.Context) (clean func(), err error) {
	space, err := open()
	if err != nil {
		return func() {}, err
	}
	undo, err := t.Register(space.path())
	if err != nil {
		return space.close, err
	}
	clean = func() {
		undo()
		space.close()
	}
	for _, c := range t.controls() {
		if err := t.try(ctx, space, c); err != nil {
			return clean, &Error{c.name, err}
		}
	}
	return clean, nil
}

func (t *Test) try(ctx context.Context, space *space, c control) error {
	do := c.do
	if !c.cage {
		do = func() error { return space.inside(c.do) }
	}
	err := do()
	if c.cage && noRoute(err) {
		return nil // not on this network, and so not tried either
	}
	if err != nil {
		return err
	}
	return t.recorded(ctx, c.recorded)
}

// noRoute says that the cage's network leads nowhere in this family: the
// kernel itself prohibits the connection.
func noRoute(err error) bool {
	return errors.Is(err, unix.EACCES) || errors.Is(err, unix.ENETUNREACH)
}

// End says that from now on others may be recorded.
func (t *Test) End() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over, t.seen = true, nil
}

func (t *Test) controls() []control {
	list := family(target4(), "IPv4")
	if t.IPv6 {
		list = append(list, family(target6(), "IPv6")...)
	}
	return list
}

func family(target netip.Addr, name string) []control {
	web, discard, dns := netip.AddrPortFrom(target, 80), netip.AddrPortFrom(target, 9), netip.AddrPortFrom(target, 53)
	refused := func(step string) func(event.Record) bool {
		return func(r event.Record) bool {
			return r.Conn != nil && r.Conn.Step == step && r.Conn.Orig == web && r.Conn.Verdict == event.Blocked && r.Conn.Reason == event.InternalAddress
		}
	}
	dropped := func(step string) func(event.Record) bool {
		return func(r event.Record) bool {
			return r.Drop != nil && r.Drop.Step == step && r.Drop.Dest == discard && r.Drop.Protocol == "udp"
		}
	}
	return []control{
		{"TCP of a step over " + name, false, func() error { return connect(web) }, refused(Step)},
		{"UDP of a step over " + name, false, func() error { return send(discard) }, dropped(Step)},
		{"names over " + name, false, func() error { return ask(netip.AddrPortFrom(own(target), 53), target) }, func(r event.Record) bool {
			return r.DNS != nil && r.DNS.Step == Step && !r.DNS.Foreign.IsValid()
		}},
		{"names at a foreign resolver over " + name, false, func() error { return ask(dns, target) }, func(r event.Record) bool {
			return r.DNS != nil && r.DNS.Step == Step && r.DNS.Foreign == target
		}},
		{"TCP of the builder over " + name, true, func() error { return connect(web) }, refused(event.BuilderStep)},
		{"UDP of the builder over " + name, true, func() error { return onlyNoRoute(send(discard)) }, dropped(event.BuilderStep)},
	}
}

func onlyNoRoute(err error) error {
	if noRoute(err) {
		return err
	}
	return nil
}

// inside runs f on a thread in the network namespace.
func inside(ns netns.NsHandle, f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // the thread ends with the goroutine
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("entering the self-test's network: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}
