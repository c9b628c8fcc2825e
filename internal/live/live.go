// Package live is what a person sees of a run while it goes on: one line with
// what its steps have reached so far. It counts what the record says and keeps
// no more than a bounded part of it.
package live

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
)

const (
	// most is how many destinations are told apart.
	most = 10_000
	// longest is how much of a refused name is shown.
	longest = 64
)

// Counter adds up the records of a run. The zero value is ready. It is for one
// goroutine.
type Counter struct {
	reached, refused map[string]struct{}
	full             bool // there are more than are told apart
	up, down         int64
	last             string // that was refused
}

// Add counts a record and reports whether the line is another one now.
func (c *Counter) Add(r *event.Record) bool {
	switch {
	case r.Conn != nil:
		return c.conn(r.Conn)
	case r.Drop != nil && !r.Drop.Noise():
		to := event.Clean(r.Drop.Name)
		if to == "" {
			to = r.Drop.Dest.Addr().String()
		}
		return c.refuse(r.Drop.Protocol + " " + at(to, r.Drop.Dest.Port()))
	}
	return false
}

func (c *Counter) conn(o *event.Conn) bool {
	name := o.Name
	if name == "" {
		name = o.OrigName
	}
	if name == "" {
		name = o.Orig.Addr().String()
	}
	c.up, c.down = event.Add(c.up, o.Up), event.Add(c.down, o.Down)
	moved := o.Up+o.Down > 0
	switch to := at(name, o.Port); {
	case o.Verdict != event.Blocked:
		return c.keep(&c.reached, to) || moved
	case o.Expected:
		return moved
	default:
		return c.refuse(to) || moved
	}
}

func at(host string, port uint16) string {
	if port == 0 {
		return event.Clean(host)
	}
	return net.JoinHostPort(event.Clean(host), strconv.Itoa(int(port)))
}

func (c *Counter) refuse(to string) bool {
	if !c.keep(&c.refused, to) {
		return false
	}
	c.last = to
	return true
}

// keep reports whether to is a new one.
func (c *Counter) keep(in *map[string]struct{}, to string) bool {
	if *in == nil {
		*in = make(map[string]struct{})
	}
	if _, known := (*in)[to]; known {
		return false
	}
	if len(*in) >= most {
		fresh := !c.full
		c.full = true
		return fresh
	}
	(*in)[to] = struct{}{}
	return true
}

// String is the line: printable ASCII, what matters most first, because a
// narrow terminal shows only its beginning. Empty: there is nothing to tell.
func (c *Counter) String() string {
	if len(c.reached)+len(c.refused) == 0 {
		return ""
	}
	parts := []string{count(len(c.reached), "destination")}
	if n := len(c.refused); n > 0 {
		parts = append(parts, strconv.Itoa(n)+" refused")
	}
	if c.full {
		parts[len(parts)-1] += " or more"
	}
	parts = append(parts, Bytes(c.up)+" up", Bytes(c.down)+" down")
	line := strings.Join(parts, ", ")
	if c.last != "" {
		line += ", refused last: " + clip(c.last)
	}
	return line
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// clip shortens a destination in its middle: the end has the port and the
// domain that somebody registered.
func clip(s string) string {
	if len(s) <= longest {
		return s
	}
	return s[:longest/3] + "..." + s[len(s)-(longest-longest/3-3):]
}

// Bytes is a number of bytes as a person says it.
func Bytes(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	value, unit := float64(n), 0
	for value >= 1024 && unit < len("KMGTPE") {
		value /= 1024
		unit++
	}
	format := "%.0f %ciB"
	if value < 10 {
		format = "%.1f %ciB"
	}
	return fmt.Sprintf(format, value, "KMGTPE"[unit-1])
}
