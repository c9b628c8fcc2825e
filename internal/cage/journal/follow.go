package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/buildcage/buildcage/internal/event"
)

// indexStride is the distance of records whose offset is remembered.
const indexStride = 1024

// Follow writes the records from number from on to w, those to come included.
// It returns nil after the end record, an error that is event.ErrIncomplete when the
// journal failed, and otherwise the error of ctx or w. It never holds up Add.
func (j *Journal) Follow(ctx context.Context, from uint64, w io.Writer) error {
	file, err := os.Open(j.path)
	if err != nil {
		return fmt.Errorf("opening the journal: %w", err)
	}
	defer file.Close()
	off, skip := j.seek(from)
	buf := make([]byte, 64<<10)
	for {
		size, wake, err := j.progress(off)
		if err != nil {
			return fmt.Errorf("%w: %w", event.ErrIncomplete, err)
		}
		if wake != nil {
			select {
			case <-wake:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if size == off {
			return nil
		}
		n, err := file.ReadAt(buf[:min(int64(len(buf)), size-off)], off)
		if n == 0 {
			return fmt.Errorf("reading the journal at %d: %w", off, err)
		}
		off += int64(n)
		if out := skipLines(buf[:n], &skip); len(out) > 0 {
			if _, err := w.Write(out); err != nil {
				return fmt.Errorf("handing on records: %w", err)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// seek returns an offset at or before record from, and how many records lie between.
func (j *Journal) seek(from uint64) (off int64, skip uint64) {
	if from == 0 {
		from = 1
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.index) == 0 {
		return 0, from - 1
	}
	i := min((from-1)/indexStride, uint64(len(j.index)-1))
	return j.index[i], from - 1 - i*indexStride
}

// progress says how far a reader at off can read. A channel means: nothing
// more yet, wait for it. An error means: nothing more ever, and no end record.
func (j *Journal) progress(off int64) (size int64, wake <-chan struct{}, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.size > off:
		return j.size, nil, nil
	case j.closed:
		return j.size, nil, j.err
	}
	if j.wake == nil {
		j.wake = make(chan struct{})
	}
	return j.size, j.wake, nil
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
