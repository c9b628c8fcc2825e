// Package journal keeps the record of a cage: one numbered line per event in a
// file, from which any number of followers read.
//
// Its promises, in this order: the totals of the end record are exact; the
// numbers have no gaps; the file and the memory are bounded whatever a step
// does; the first sighting of anything is written at once. Repeats are folded
// (see ledger). A record that can't be written ends the journal: the cage must
// go down with it, because traffic without a record must not happen.
//
// A rolling journal is for a record that never ends: it forgets its oldest half
// when it is full (see roll).
package journal

import (
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

// flushEvery is how often pending folds are looked at.
const flushEvery = time.Second

// Clock is where a journal gets the time. The zero value is the real one.
type Clock struct {
	Now  func() time.Time
	Tick <-chan time.Time // when to look at pending folds; nil: every second
}

// Journal is an open record. It is safe for concurrent use.
type Journal struct {
	path   string
	now    func() time.Time
	failed chan error
	stop   chan struct{}

	mu      sync.Mutex
	file    *os.File       // of the last segment
	encoder *event.Encoder // numbers the records and keeps the totals
	size    int64          // bytes of whole records so far
	kept    []segment      // one, unless the journal rolls
	index   []int64        // offset of every indexStride-th record
	lost    int64
	ledger  *ledger
	closed  bool
	err     error         // why closed, nil after Seal
	wake    chan struct{} // closed at the next change, nil when nobody waits
}

// New creates the file at path, or empties it, and starts a journal in it.
func New(path string, clock Clock) (*Journal, error) { return start(path, clock, shipped) }

// Rolling is New for a record that has no end in sight. It has more than one
// file, all of whose names begin with path.
func Rolling(path string, clock Clock) (*Journal, error) { return start(path, clock, rolling) }

func start(path string, clock Clock, l limits) (*Journal, error) {
	file, err := create(path)
	if err != nil {
		return nil, err
	}
	if clock.Now == nil {
		clock.Now = time.Now
	}
	j := &Journal{
		path: path, now: clock.Now, file: file, kept: []segment{{path: path, first: 1}},
		failed: make(chan error, 1), stop: make(chan struct{}),
		ledger: newLedger(l),
	}
	j.encoder = event.NewEncoder(appender{j}, clock.Now)
	go j.run(clock.Tick)
	return j, nil
}

func create(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating the journal: %w", err)
	}
	return file, nil
}

// Failed delivers the error that ended the journal, at most once. A sealed
// journal never fails.
func (j *Journal) Failed() <-chan error { return j.failed }

// Closed is closed when nothing more is recorded: after Seal, or a failure.
func (j *Journal) Closed() <-chan struct{} { return j.stop }

// Add records r, alone or folded. Number, kind and time are the journal's; r's
// time counts where it is folded. After Seal, and after a failure, Add does nothing.
func (j *Journal) Add(r event.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	if r.Time.IsZero() {
		r.Time = j.now()
	}
	if k, ok := keyOf(r); !ok {
		j.plain(r)
	} else if j.ledger.sight(k, sumOf(r), j.used()) {
		j.ledger.charge(k.class, j.write(r))
	}
	j.roll()
}

// Lost adds n to the packets that the kernel could not hand to the logger.
func (j *Journal) Lost(n int64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lost += n
}

// Seal writes what is still folded and the end record. It is idempotent: the
// first reason counts. It returns the error of a journal that failed before.
func (j *Journal) Seal(reason string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return j.err
	}
	j.flush(func(*fold) bool { return true })
	j.write(event.Record{End: &event.End{Reason: reason, Lost: j.lost}})
	if j.closed {
		return j.err
	}
	if err := j.file.Close(); err != nil {
		j.fail(fmt.Errorf("closing the journal: %w", err))
		return j.err
	}
	j.close(nil)
	return nil
}

// run flushes on every tick until the journal closes.
func (j *Journal) run(tick <-chan time.Time) {
	if tick == nil {
		t := time.NewTicker(flushEvery)
		defer t.Stop()
		tick = t.C
	}
	for {
		select {
		case <-tick:
			j.Flush()
		case <-j.stop:
			return
		}
	}
}

// Flush writes the folds that are due.
func (j *Journal) Flush() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return
	}
	now := j.now()
	j.flush(func(f *fold) bool { return !now.Before(f.due) })
	j.roll()
}

// plain writes a record that never folds. What a step repeated stands before
// the record of its end, and is forgotten with it.
func (j *Journal) plain(r event.Record) {
	ended := r.Step != nil && r.Step.Exit != nil
	if ended {
		j.flush(func(f *fold) bool { return f.key.step == r.Step.ID })
		j.ledger.release(r.Step.ID)
	}
	j.write(r)
}

// flush writes the pending folds that are due.
func (j *Journal) flush(due func(*fold) bool) {
	now := j.now()
	j.ledger.flush(due, now, j.used, func(f *fold) int {
		return j.write(f.record())
	})
}

// write appends one numbered record and returns its length, 0 after a failure.
func (j *Journal) write(r event.Record) int {
	if j.closed {
		return 0
	}
	before := j.size
	if err := j.encoder.Encode(r); err != nil {
		j.fail(err)
		return 0
	}
	j.wakeAll()
	return int(j.size - before)
}

// appender is the end of the file, as the encoder sees it: one Write per record.
type appender struct{ *Journal }

func (a appender) Write(line []byte) (int, error) {
	n, err := a.file.Write(line)
	if err != nil {
		return n, err
	}
	if a.encoder.Seq()%indexStride == 0 {
		a.index = append(a.index, a.size)
	}
	a.size += int64(n)
	return n, nil
}

func (j *Journal) fail(err error) {
	j.file.Close()
	j.failed <- err
	j.close(err)
}

func (j *Journal) close(err error) {
	j.closed, j.err = true, err
	close(j.stop)
	j.wakeAll()
}
