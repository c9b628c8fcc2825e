package proxy

import (
	"fmt"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

// How long a record waits for the process, counted from accepting the
// connection. Most are written when a connection ends, and never wait. A
// refusal is written, and the client told, after the first bytes: there the
// process is worth more than a few milliseconds.
const (
	openerWait    = 2 * time.Millisecond
	openerRefused = 25 * time.Millisecond
)

// noteLate is on a record that could not wait any longer.
const noteLate = "not looked up in time"

// opener is the lookup of who opened a connection. It runs beside the
// connection and costs it nothing; only records wait for it.
type opener struct {
	since time.Time
	done  chan struct{}  // nil: there was nothing to look up
	found *event.Process // once done
}

// whoOpened starts the lookup, nil where there is none.
func (c *session) whoOpened() *opener {
	if c.Process == nil {
		return nil
	}
	var find func() *event.Process
	var known *event.Process
	err := c.client.control(func(fd int) { find, known = c.Process(c.step, fd, c.client.remote, c.orig) })
	if err != nil || find == nil {
		return settled(known)
	}
	o := &opener{since: c.began, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		defer func() {
			if bug := recover(); bug != nil {
				c.Panics.Add(1)
				c.Logger.Error("looking up a process panicked", "panic", bug)
				o.found = &event.Process{Note: event.Escape(fmt.Sprintf("panic: %v", bug))}
			}
		}()
		o.found = find()
	}()
	return o
}

// settled is a lookup that is over, nil without an answer.
func settled(p *event.Process) *opener {
	if p == nil {
		return nil
	}
	return &opener{found: p}
}

// known says that wait would not wait.
func (o *opener) known() bool {
	if o == nil || o.done == nil {
		return true
	}
	select {
	case <-o.done:
		return true
	default:
		return false
	}
}

// wait returns the process, or says that it is not known yet.
func (o *opener) wait(refused bool) *event.Process {
	if o == nil {
		return nil
	}
	if o.done == nil {
		return o.found
	}
	select {
	case <-o.done:
		return o.found
	default:
	}
	patience := openerWait
	if refused {
		patience = openerRefused
	}
	late := time.NewTimer(time.Until(o.since.Add(patience)))
	defer late.Stop()
	select {
	case <-o.done:
		return o.found
	case <-late.C:
		return &event.Process{Note: noteLate}
	}
}
