package evidence

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

const (
	suffix = ".json"
	// pending marks a step that began and whose evidence is not kept yet. One
	// that is there at the start was lost, with what the step did.
	pending = ".pending"
	// maxFile is the most that a step may have.
	maxFile = 256 << 10
	// maxTotal and maxFiles bound the directory. What has to go, least
	// recently kept first, leaves an empty file behind.
	maxTotal = 64 << 20
	maxFiles = 50_000
)

const (
	doubtLost      = "evidence of an earlier run was lost"
	doubtElsewhere = "the result may come from a cache that was imported"
	doubtTooLarge  = "it did more than is kept"
)

// Store keeps evidence in a directory: one file for each step, written whole
// or not at all. It is safe for concurrent use by one process.
type Store struct {
	dir string

	mu    sync.Mutex
	lost  map[string]bool // commands with runs that nobody knows of
	files int             // that may be there, and their bytes
	total int64
}

// Open makes the directory fit, and finds out what an earlier cage left undone.
func Open(dir string) (*Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the evidence: %w", err)
	}
	s := &Store{dir: dir, lost: make(map[string]bool)}
	if err := s.recover(); err != nil {
		return nil, fmt.Errorf("opening the evidence: %w", err)
	}
	return s, nil
}

// recover reads the marks and shrinks the directory to its bounds. Marks stay:
// the result that such a step may have left in the cache does too.
func (s *Store) recover() error {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	var total int64
	for _, e := range entries {
		info, err := e.Info()
		switch {
		case err != nil:
			return err
		case strings.HasSuffix(e.Name(), pending):
			command, err := os.ReadFile(filepath.Join(s.dir, e.Name()))
			if err != nil {
				return err
			}
			s.lost[string(command)] = true
		case strings.HasSuffix(e.Name(), suffix):
			files = append(files, info)
			total += info.Size()
		default: // a file that was being written
			if err := os.Remove(filepath.Join(s.dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return s.shrink(files, total)
}

// bound shrinks the directory when what was written since may have brought it
// beyond its bounds: a cage that stays writes for weeks.
func (s *Store) bound() error {
	if s.files <= maxFiles+maxFiles/8 && s.total <= maxTotal+maxTotal/8 {
		return nil
	}
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return err
	}
	var files []fs.FileInfo
	var total int64
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), suffix) {
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		files = append(files, info)
		total += info.Size()
	}
	return s.shrink(files, total)
}

// shrink also counts what is left.
func (s *Store) shrink(files []fs.FileInfo, total int64) error {
	slices.SortFunc(files, func(a, b fs.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	var errs []error
	for i, f := range files {
		path := filepath.Join(s.dir, f.Name())
		switch {
		case len(files)-i > maxFiles:
			errs = append(errs, os.Remove(path))
		case total > maxTotal && f.Size() > 0:
			errs = append(errs, os.Truncate(path, 0))
		default:
			continue
		}
		total -= f.Size()
	}
	s.files, s.total = min(len(files), maxFiles), total
	return errors.Join(errs...)
}

// Begin marks that a step of a run of the cage has begun.
func (s *Store) Begin(run, id, command string) error {
	if err := os.WriteFile(s.mark(run, id), []byte(command), 0o600); err != nil {
		return fmt.Errorf("marking a step: %w", err)
	}
	return nil
}

func (s *Store) mark(run, id string) string {
	return filepath.Join(s.dir, filepath.Base(run+"-"+id)+pending)
}

// Done takes the mark away: the evidence is kept, or there is no result.
func (s *Store) Done(run, id string) error {
	if err := os.Remove(s.mark(run, id)); err != nil {
		return fmt.Errorf("unmarking a step: %w", err)
	}
	return nil
}

// Lose says that a run of command left a result and no evidence.
func (s *Store) Lose(command string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lost[command] = true
}

// Keep adds a run of the step key.
func (s *Store) Keep(key, name string, r Run) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.read(key)
	e.Name = name
	e.add(r)
	return s.write(key, e)
}

// Doubt notes that a result of the step key may have been made elsewhere.
func (s *Store) Doubt(key, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.read(key)
	if e.Doubt != "" {
		return nil
	}
	e.Name, e.Doubt = cmp.Or(e.Name, name), doubtElsewhere
	return s.write(key, e)
}

// Look returns what is known of the step key.
func (s *Store) Look(key string) Evidence {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.read(key)
	for _, r := range e.Runs {
		if s.lost[r.Command] && e.Doubt == "" {
			e.Doubt = doubtLost
		}
	}
	return e
}

// read never fails: what can't be read is evidence that was lost.
func (s *Store) read(key string) Evidence {
	b, err := os.ReadFile(s.path(key))
	if errors.Is(err, fs.ErrNotExist) {
		return Evidence{Version: version}
	}
	var e Evidence
	if err != nil || json.NewDecoder(bytes.NewReader(b)).Decode(&e) != nil || e.Version != version {
		return Evidence{Version: version, Doubt: doubtLost}
	}
	return e
}

func (s *Store) path(key string) string { return filepath.Join(s.dir, filepath.Base(key)+suffix) }

func (s *Store) write(key string, e Evidence) error {
	b, err := json.Marshal(e)
	if err == nil && len(b) > maxFile {
		b, err = json.Marshal(Evidence{Version: version, Name: e.Name, Doubt: doubtTooLarge})
	}
	if err != nil {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	if err := replace(s.path(key), b); err != nil {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	s.files, s.total = s.files+1, s.total+int64(len(b)) // more than there is, where it replaced one
	if err := s.bound(); err != nil {
		return fmt.Errorf("keeping evidence: %w", err)
	}
	return nil
}

// replace writes a file whole and durably, or leaves the old one.
func replace(path string, b []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "new-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		err = errors.Join(err, os.Remove(f.Name()))
	}
	return err
}
