package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/buildcage/buildcage/internal/event"
)

// indexStride is the distance of records whose offset is remembered.
const indexStride = 1024

// Follow writes the records from number from on to w, those to come included;
// what is forgotten by then is left out.
// It returns nil after the end record, an error that is event.ErrIncomplete when the
// journal failed, and otherwise the error of ctx or w. It never holds up Add.
func (j *Journal) Follow(ctx context.Context, from uint64, w io.Writer) error {
	r := reader{journal: j, from: from, off: -1, buf: make([]byte, 64<<10)}
	defer r.close()
	for {
		part, err := j.progress(r.off)
		if err != nil {
			return fmt.Errorf("%w: %w", event.ErrIncomplete, err)
		}
		if part.wake != nil {
			select {
			case <-part.wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if part.end == r.off {
			return nil
		}
		out, err := r.read(part)
		if err != nil {
			return err
		}
		if len(out) > 0 {
			if _, err := w.Write(out); err != nil {
				return fmt.Errorf("handing on records: %w", err)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// reader is where a follower stands.
type reader struct {
	journal *Journal
	from    uint64
	off     int64  // of the next byte; -1: not yet known
	skip    uint64 // lines to leave out
	buf     []byte
	file    *os.File
	path    string // of file
}

// read returns the next records, or none, which does not mean that there are no
// more.
func (r *reader) read(p part) ([]byte, error) {
	if r.off < p.base { // at the beginning, or what came next is forgotten
		r.off, r.skip = r.journal.seek(r.from)
		return nil, nil
	}
	if r.path != p.path {
		r.close()
		file, err := os.Open(p.path)
		if errors.Is(err, fs.ErrNotExist) && r.journal.forgot(p.segment) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("opening the journal: %w", err)
		}
		r.file, r.path = file, p.path
	}
	n, err := r.file.ReadAt(r.buf[:min(int64(len(r.buf)), p.end-r.off)], r.off-p.base)
	if n == 0 {
		return nil, fmt.Errorf("reading the journal at %d: %w", r.off, err)
	}
	whole := r.buf[:bytes.LastIndexByte(r.buf[:n], '\n')+1] // what follows may be forgotten meanwhile
	if len(whole) == 0 {
		return nil, fmt.Errorf("reading the journal at %d: no end of a record in %d bytes", r.off, n)
	}
	r.off += int64(len(whole))
	return skipLines(whole, &r.skip), nil
}

func (r *reader) close() {
	if r.file != nil {
		r.file.Close()
	}
}

// seek returns an offset at or before record from, and how many records lie
// between. Of what is forgotten, it is that of the oldest record there is.
func (j *Journal) seek(from uint64) (off int64, skip uint64) {
	j.mu.Lock()
	defer j.mu.Unlock()
	oldest := j.kept[0]
	if from <= oldest.first {
		return oldest.base, 0
	}
	if len(j.index) > 0 {
		i := min((from-1)/indexStride, uint64(len(j.index)-1))
		off, skip = j.index[i], from-1-i*indexStride
	} else {
		skip = from - 1
	}
	if off < oldest.base {
		return oldest.base, from - oldest.first
	}
	return off, skip
}

// part is what a follower can read now, or what it has to wait for.
type part struct {
	segment
	end  int64
	wake <-chan struct{} // nothing more yet
}

// progress says how far a reader at off can read. An error means: nothing more
// ever, and no end record.
func (j *Journal) progress(off int64) (part, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	s, end := j.at(off)
	switch {
	case off < j.size:
		return part{segment: s, end: end}, nil
	case j.closed:
		return part{segment: s, end: end}, j.err
	}
	if j.wake == nil {
		j.wake = make(chan struct{})
	}
	return part{segment: s, end: end, wake: j.wake}, nil
}

// forgot reports whether a segment is gone.
func (j *Journal) forgot(s segment) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return !slices.Contains(j.kept, s)
}

func (j *Journal) wakeAll() {
	if j.wake != nil {
		close(j.wake)
		j.wake = nil
	}
}

// skipLines drops the first *skip lines of what it is given piece by piece.
func skipLines(b []byte, skip *uint64) []byte {
	for *skip > 0 {
		i := bytes.IndexByte(b, '\n')
		if i < 0 {
			return nil
		}
		b = b[i+1:]
		*skip--
	}
	return b
}
