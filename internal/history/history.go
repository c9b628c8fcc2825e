// Package history keeps past runs, so that they can be reported on again: the
// record as it was, compressed, and the few facts besides that a report needs.
// It is bounded in number and size, it takes concurrent runs and damaged files
// as they come, and nobody's build depends on it.
package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Bounds of a Store that says nothing else.
const (
	DefaultRuns  = 100
	DefaultBytes = 64 << 20
)

// Store is a directory of runs, one file each, private to its owner. The
// useful zero value is one with its Dir set.
type Store struct {
	Dir   string
	Runs  int   // how many are kept; 0: DefaultRuns
	Bytes int64 // how much room they have; 0: DefaultBytes
}

// Open returns the store under the user's cache directory. It makes nothing.
func Open() (*Store, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, fmt.Errorf("finding the cache directory: %w", err)
	}
	return &Store{Dir: filepath.Join(cache, "buildcage", "runs")}, nil
}

// version of the files. One that it doesn't know is not read.
const version = 1

// Facts are what the record of a run does not say.
type Facts struct {
	Version     int            `json:"version"`
	ID          string         `json:"id"`
	Mode        string         `json:"mode"`
	Outcome     string         `json:"outcome"`  // for lists only
	Headline    string         `json:"headline"` // for lists only
	Records     int            `json:"records"`
	Complete    bool           `json:"complete"`
	Problem     string         `json:"problem,omitempty"`
	BuildExit   int            `json:"build_exit"`
	Interrupted bool           `json:"interrupted,omitempty"`
	Config      string         `json:"config,omitempty"`
	Dockerfile  string         `json:"dockerfile,omitempty"`
	File        string         `json:"file,omitempty"`
	Lines       map[string]int `json:"lines,omitempty"`
	PerStep     bool           `json:"per_step,omitempty"`
	Policy      *policy.Spec   `json:"policy,omitempty"`
	Started     time.Time      `json:"started"`
	Duration    time.Duration  `json:"duration_ns"`
}

// Run is a kept run.
type Run struct {
	Facts
	Records []event.Record
}

// Error is a run that is not there, or not to be told from others.
type Error struct {
	ID   string
	Many []string // ids that begin with ID; none: no such run
}

func (e *Error) Error() string {
	switch {
	case len(e.Many) > 0:
		return fmt.Sprintf("run %q is not unique: %s", e.ID, strings.Join(e.Many, ", "))
	case e.ID == "":
		return "no run is kept"
	}
	return fmt.Sprintf("no run %q is kept", e.ID)
}

// Hint says where to look.
func (e *Error) Hint() string {
	if len(e.Many) == 0 && e.ID == "" {
		return "runs are kept when they end; run buildcage build first"
	}
	return "buildcage report --list shows the runs that are kept"
}

// DamagedError is a file that is no run any more.
type DamagedError struct {
	Path string
	Err  error
}

func (e *DamagedError) Error() string { return fmt.Sprintf("reading %s: %v", e.Path, e.Err) }
func (e *DamagedError) Unwrap() error { return e.Err }

// Hint says what to do about it.
func (e *DamagedError) Hint() string { return "the file is damaged: remove it" }

// entry is a file of the store.
type entry struct {
	name string
	size int64
}

const suffix = ".run.zst"

// entries are the files, newest first: their names begin with their time.
func (s *Store) entries() ([]entry, error) {
	files, err := os.ReadDir(s.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing kept runs: %w", err)
	}
	var list []entry
	for _, f := range files {
		info, err := f.Info()
		if err != nil || !info.Mode().IsRegular() || !strings.HasSuffix(f.Name(), suffix) {
			continue // gone meanwhile, or not ours
		}
		list = append(list, entry{f.Name(), info.Size()})
	}
	slices.SortFunc(list, func(a, b entry) int { return strings.Compare(b.name, a.name) })
	return list, nil
}

// name of the file of a run.
func name(f *Facts) string {
	return f.Started.UTC().Format("20060102T150405.000Z") + "-" + safe(f.ID) + suffix
}

// id of the run in a file.
func (e entry) id() string {
	_, id, _ := strings.Cut(strings.TrimSuffix(e.name, suffix), "-")
	return id
}

// safe is what of an id may be part of a file's name.
func safe(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r == '-' {
			return r
		}
		return '_'
	}, id[:min(len(id), 64)])
}

// List returns the facts of all runs, newest first, and how many files can't
// be read.
func (s *Store) List() (runs []Facts, damaged int, err error) {
	entries, err := s.entries()
	for _, e := range entries {
		f, err := s.facts(e)
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone meanwhile
		case err != nil:
			damaged++
		default:
			runs = append(runs, *f)
		}
	}
	return runs, damaged, err
}

// Load returns the run whose id begins with id, or the latest one for "".
func (s *Store) Load(id string) (*Run, error) {
	entries, err := s.entries()
	if err != nil {
		return nil, err
	}
	var found []entry
	for _, e := range entries {
		switch {
		case id == "" || e.id() == id:
			return s.read(e)
		case strings.HasPrefix(e.id(), id):
			found = append(found, e)
		}
	}
	if len(found) == 1 {
		return s.read(found[0])
	}
	missing := &Error{ID: id}
	for _, e := range found {
		missing.Many = append(missing.Many, e.id())
	}
	return nil, missing
}
