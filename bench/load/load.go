// Package load is the two ends of a benchmark: an origin, and a client that
// keeps it busy through whatever is between them. Both are event loops on one
// thread that copy nothing they need not, so that what is between them is what
// takes the time.
package load

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Ports of the origin. All but HTTP wait for a hello first.
const (
	PortHTTP   = 80
	PortEcho   = 443 // one byte, then the end
	PortStream = 444 // bytes without end
	PortHold   = 445 // one byte, then nothing
)

// Small and Large are the paths that the HTTP origin serves, with so many bytes.
const (
	Small     = "/small"
	SmallSize = 1 << 10
	Large     = "/large"
	LargeSize = 64 << 20
)

// Task is what a client does.
type Task struct {
	Kind     string         `json:"kind"` // connect, stream, hold, http, first
	To       netip.Addr     `json:"to"`   // where there is no Resolver
	Resolver netip.AddrPort `json:"resolver,omitzero"`
	Name     string         `json:"name"` // of the origin; with Kind first: below which names are made up
	Path     string         `json:"path,omitempty"`
	Clients  int            `json:"clients"`
	Time     time.Duration  `json:"time"`
}

// Result is what came of it.
type Result struct {
	Count   int     `json:"count"` // connections, requests
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
	P50     float64 `json:"p50"` // milliseconds
	P99     float64 `json:"p99"`
	Failed  int     `json:"failed"`
	Error   string  `json:"error,omitempty"` // the first one
}

// Text encodes a task for a command line.
func (t Task) Text() (string, error) {
	b, err := json.Marshal(t)
	return string(b), err
}

// ParseTask is the inverse of Text.
func ParseTask(text string) (Task, error) {
	var t Task
	err := json.Unmarshal([]byte(text), &t)
	return t, err
}

func (r *Result) fail(err error) {
	if r.Failed++; r.Error == "" {
		r.Error = err.Error()
	}
}

// spread fills in the percentiles.
func (r *Result) spread(took []time.Duration) {
	if len(took) == 0 {
		return
	}
	slices.Sort(took)
	ms := func(share float64) float64 {
		return float64(took[int(share*float64(len(took)-1))]) / float64(time.Millisecond)
	}
	r.P50, r.P99 = ms(0.5), ms(0.99)
}

// hello is what a current TLS client would send first.
func hello(name string) ([]byte, error) {
	client, server := net.Pipe()
	defer server.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name}).Handshake() // nobody answers
		client.Close()
	}()
	b := make([]byte, 8<<10)
	n, err := server.Read(b) // a hello is one record, and a pipe keeps writes together
	if err != nil {
		return nil, fmt.Errorf("making a hello: %w", err)
	}
	return b[:n], nil
}

// poll is an epoll instance; level-triggered.
type poll struct {
	fd     int
	events []unix.EpollEvent
}

func newPoll() (*poll, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("creating epoll: %w", err)
	}
	return &poll{fd, make([]unix.EpollEvent, 512)}, nil
}

func (p *poll) add(fd int, events uint32) error {
	return control(p.fd, unix.EPOLL_CTL_ADD, fd, events)
}

func (p *poll) change(fd int, events uint32) error {
	return control(p.fd, unix.EPOLL_CTL_MOD, fd, events)
}

// wait returns what is ready within the time, which may be nothing.
func (p *poll) wait(within time.Duration) ([]unix.EpollEvent, error) {
	n, err := unix.EpollWait(p.fd, p.events, max(int(within/time.Millisecond), 0))
	if errors.Is(err, unix.EINTR) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("waiting: %w", err)
	}
	return p.events[:n], nil
}
