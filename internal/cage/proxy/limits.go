package proxy

import (
	"time"

	"golang.org/x/sys/unix"
)

// Limits bounds what clients can take. The zero value of each field is its default.
type Limits struct {
	Hello     time.Duration // from accept to a complete hello or request head: 10 s
	Idle      time.Duration // silence in both directions: 15 min
	KeepAlive time.Duration // between two HTTP requests: 2 min
	Quiet     time.Duration // a silent client of a server-first protocol, where one may pass: 300 ms
	Refuse    time.Duration // a silent client that only an unexpected name could save: 500 ms
	Conns     int           // open at once: 20 000, or what the limit on open files is good for
	StepConns int           // open at once by one step: 12 000, or three fifths of what Conns comes to
	Pipes     int           // in use at once, each for a direction that is moving; beyond: a buffer; < 0: none
}

const (
	mostConns = 20_000
	// mostPipes bounds what clients that do not read can make the kernel hold.
	mostPipes = 128
	// connFiles is what a connection needs: the client's socket and the origin's.
	connFiles = 2
	// spareFiles is the least that is left for the rest of the cage: names,
	// record, control, pipes.
	spareFiles = 512
)

// fill sets the defaults. One step must never take the descriptors that
// another one, the nameserver or the journal needs: where the limit on open
// files is low, fewer connections are taken, and the others are refused and recorded.
func (l *Limits) fill(files int) {
	l.Hello = orDefault(l.Hello, 10*time.Second)
	l.Idle = orDefault(l.Idle, 15*time.Minute)
	l.KeepAlive = orDefault(l.KeepAlive, 2*time.Minute)
	l.Quiet = orDefault(l.Quiet, 300*time.Millisecond)
	l.Refuse = orDefault(l.Refuse, 500*time.Millisecond)
	spare := max(files/16, spareFiles)
	if l.Conns == 0 {
		l.Conns = min(mostConns, max((files-spare)/connFiles, 16))
		l.StepConns = orDefault(l.StepConns, l.Conns*3/5)
	}
	l.StepConns = orDefault(l.StepConns, l.Conns)
	l.Pipes = orDefault(l.Pipes, min(spare/4, mostPipes))
}

// openFiles is how many descriptors this process may have. Go has raised the
// soft limit to the hard one.
func openFiles() int {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 1024
	}
	return int(min(r.Cur, 1<<20))
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}
