package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/buildcage/buildcage/internal/event"
)

// A file is one zstd frame with a checksum: the facts as a line of JSON, then
// the record as the cage wrote it, line by line.

const (
	// maxFacts bounds the first line: a policy can be long.
	maxFacts = 8 << 20
	// window bounds what a forged file makes a reader allocate.
	window = 8 << 20
	// abandoned is when a temporary file is nobody's any more.
	abandoned = time.Hour

	temporary = ".tmp-"
)

// Save keeps a run and forgets the oldest ones beyond the bounds. The file is
// there as a whole or not at all.
func (s *Store) Save(run *Run) (err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return fmt.Errorf("making the directory of kept runs: %w", err)
	}
	if err := os.Chmod(s.Dir, 0o700); err != nil {
		return fmt.Errorf("closing the directory of kept runs to others: %w", err)
	}
	f, err := os.CreateTemp(s.Dir, temporary) // 0600
	if err != nil {
		return fmt.Errorf("keeping the run: %w", err)
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	facts := run.Facts
	facts.Version, facts.Records = version, len(run.Records)
	if err := errors.Join(encode(f, &facts, run.Records), f.Close()); err != nil {
		return fmt.Errorf("keeping the run: %w", err)
	}
	info, err := os.Stat(f.Name())
	if err != nil {
		return fmt.Errorf("keeping the run: %w", err)
	}
	if info.Size() > s.bytes()/2 {
		return fmt.Errorf("keeping the run: its record has %d bytes, there is room for %d", info.Size(), s.bytes()/2)
	}
	if err := os.Rename(f.Name(), filepath.Join(s.Dir, name(&facts))); err != nil {
		return fmt.Errorf("keeping the run: %w", err)
	}
	return s.prune()
}

func (s *Store) bytes() int64 {
	if s.Bytes > 0 {
		return s.Bytes
	}
	return DefaultBytes
}

func (s *Store) runs() int {
	if s.Runs > 0 {
		return s.Runs
	}
	return DefaultRuns
}

// prune forgets what is beyond the bounds, oldest first, and what writers that
// were killed left behind. Another one may do so at the same time.
func (s *Store) prune() error {
	entries, err := s.entries()
	if err != nil {
		return err
	}
	total := int64(0)
	for i, e := range entries {
		total += e.size
		if i >= s.runs() || total > s.bytes() {
			err = errors.Join(err, remove(filepath.Join(s.Dir, e.name)))
		}
	}
	files, listing := os.ReadDir(s.Dir)
	err = errors.Join(err, listing)
	for _, f := range files {
		info, gone := f.Info()
		if gone == nil && strings.HasPrefix(f.Name(), temporary) && time.Since(info.ModTime()) > abandoned {
			err = errors.Join(err, remove(filepath.Join(s.Dir, f.Name())))
		}
	}
	if err != nil {
		return fmt.Errorf("forgetting old runs: %w", err)
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func encode(w io.Writer, facts *Facts, records []event.Record) error {
	z, err := zstd.NewWriter(w, zstd.WithWindowSize(window/2), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	enc := json.NewEncoder(z)
	enc.SetEscapeHTML(false)
	err = enc.Encode(facts)
	for i := range records {
		if err == nil {
			err = enc.Encode(&records[i])
		}
	}
	return errors.Join(err, z.Close())
}

// open reads the facts of a file; what follows them is the record.
func (s *Store) open(e entry) (facts *Facts, record io.Reader, closing func(), err error) {
	path := filepath.Join(s.Dir, e.name)
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("opening a kept run: %w", err)
	}
	z, err := zstd.NewReader(f, zstd.WithDecoderMaxWindow(window), zstd.WithDecoderConcurrency(1))
	if err != nil {
		_ = f.Close()
		return nil, nil, nil, &DamagedError{path, err}
	}
	closing = func() {
		z.Close()
		_ = f.Close()
	}
	lines := bufio.NewReaderSize(z, 64<<10)
	if facts, err = readFacts(lines); err != nil {
		closing()
		return nil, nil, nil, &DamagedError{path, err}
	}
	return facts, lines, closing, nil
}

func readFacts(r *bufio.Reader) (*Facts, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return nil, err
		}
		if len(line) > maxFacts {
			return nil, errors.New("its first line is too long")
		}
	}
	f := new(Facts)
	if err := json.Unmarshal(line, f); err != nil {
		return nil, err
	}
	if f.Version != version {
		return nil, fmt.Errorf("version %d, want %d", f.Version, version)
	}
	return f, nil
}

func (s *Store) facts(e entry) (*Facts, error) {
	f, _, closing, err := s.open(e)
	if err != nil {
		return nil, err
	}
	closing()
	return f, nil
}

// read returns a run as it was kept: as many records, and with their end just
// where they had one.
func (s *Store) read(e entry) (*Run, error) {
	facts, record, closing, err := s.open(e)
	if err != nil {
		return nil, err
	}
	defer closing()
	run := &Run{Facts: *facts}
	if run.Records, err = event.ReadAll(record); err != nil && !errors.Is(err, event.ErrIncomplete) {
		return nil, &DamagedError{filepath.Join(s.Dir, e.name), err}
	}
	ended := err == nil
	if len(run.Records) != facts.Records || facts.Complete && !ended {
		return nil, &DamagedError{filepath.Join(s.Dir, e.name), fmt.Errorf("%d records, want %d", len(run.Records), facts.Records)}
	}
	return run, nil
}
