package journal

import (
	"fmt"
	"os"
)

// segment is one file of the record: all of it, unless the journal rolls.
type segment struct {
	path  string
	base  int64  // offset of its first byte in all that was ever written
	first uint64 // number of its first record
}

// used is how many bytes the last segment has.
func (j *Journal) used() int64 { return j.size - j.kept[len(j.kept)-1].base }

// full is the part of a segment after which the next one begins. What is left
// of it is what first sightings find until then.
func (l *limits) full() int64 { return l.bytes / 4 * 3 }

// roll begins the next segment when the last one is full, and forgets all but
// that. No flood of one step can make it forget what was seen before: a step's
// share of a segment is bounded, see limits. The lock is held.
func (j *Journal) roll() {
	if !j.ledger.roll || j.closed || j.used() < j.ledger.full() {
		return
	}
	j.flush(func(*fold) bool { return true })
	if j.closed {
		return
	}
	last := j.kept[len(j.kept)-1]
	next := segment{base: j.size, first: j.encoder.Seq() + 1}
	next.path = fmt.Sprintf("%s.%d", j.path, next.first)
	file, err := create(next.path)
	if err == nil {
		err = j.file.Close()
		j.file = file
	}
	for _, old := range j.kept[:len(j.kept)-1] {
		if err == nil {
			err = os.Remove(old.path)
		}
	}
	if err != nil {
		j.fail(fmt.Errorf("beginning the next part of the journal: %w", err))
		return
	}
	j.kept = []segment{last, next}
	j.ledger = newLedger(j.ledger.limits)
}

// at is the segment that has the byte at off, and where it ends; the oldest one
// for what is forgotten. The lock is held.
func (j *Journal) at(off int64) (s segment, end int64) {
	end = j.size
	for i := len(j.kept) - 1; i > 0; i-- {
		if off >= j.kept[i].base {
			return j.kept[i], end
		}
		end = j.kept[i].base
	}
	return j.kept[0], end
}
