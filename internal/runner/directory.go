package runner

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	dirPrefix  = "buildcage-"
	ownerFile  = "owner" // locked for as long as the run lives
	socketFile = "buildkitd.sock"
	// maxSocketPath is what the strictest system (macOS) takes.
	maxSocketPath = 103
	// unfinished is the age from which a directory without an owner file is
	// one whose maker died before it wrote it.
	unfinished = time.Hour
)

func newRunID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// directory is the private directory of a run. The kernel drops the lock on
// its owner file with the process, however that ends.
type directory struct {
	path  string
	owner *os.File
}

func (d *directory) socket() string { return filepath.Join(d.path, socketFile) }

func (d *directory) remove() error {
	defer d.owner.Close()
	if err := os.RemoveAll(d.path); err != nil {
		return fmt.Errorf("removing the private directory: %w", err)
	}
	return nil
}

// makeDirectory makes it under os.TempDir, or under /tmp where the path of a
// socket would get too long.
func makeDirectory(runID string) (*directory, error) {
	path := filepath.Join(os.TempDir(), dirPrefix+runID)
	if len(filepath.Join(path, socketFile)) > maxSocketPath {
		path = filepath.Join("/tmp", dirPrefix+runID)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		return nil, fmt.Errorf("making a private directory: %w", err)
	}
	owner, err := takeOwnership(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("making a private directory: %w", err), os.RemoveAll(path))
	}
	return &directory{path: path, owner: owner}, nil
}

// takeOwnership locks the file before it gets its name, so that no sweep finds
// it unlocked.
func takeOwnership(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, ownerFile+".new"), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := lock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := os.Rename(f.Name(), filepath.Join(dir, ownerFile)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// dead are the directories of runs that have provably ended: ours, and their
// owner files could be locked, which they stay until close.
type dead struct {
	runs  map[string]string // run id → path
	locks []*os.File
}

func (d *dead) has(run string) bool { _, ok := d.runs[run]; return ok }

func (d *dead) remove() error {
	var problems []error
	for _, path := range d.runs {
		if err := os.RemoveAll(path); err != nil {
			problems = append(problems, fmt.Errorf("cleaning up after a dead run: %w", err))
		}
	}
	return errors.Join(problems...)
}

func (d *dead) close() {
	for _, f := range d.locks {
		f.Close()
	}
}

// tempDirs are where makeDirectory makes them.
func tempDirs() []string {
	dirs := []string{filepath.Clean(os.TempDir()), "/tmp"}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

func deadDirectories(parents []string) *dead {
	d := &dead{runs: map[string]string{}}
	for _, parent := range parents {
		paths, _ := filepath.Glob(filepath.Join(parent, dirPrefix+"*"))
		for _, path := range paths {
			d.examine(path)
		}
	}
	return d
}

// examine adds path when its owner is dead. Others can make such names in a
// shared directory too, so only a directory of this user, closed to others,
// counts.
func (d *dead) examine(path string) {
	run := strings.TrimPrefix(filepath.Base(path), dirPrefix)
	if raw, err := hex.DecodeString(run); err != nil || len(raw) != 8 {
		return
	}
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || info.Mode().Perm() != 0o700 || !mine(info) {
		return
	}
	f, err := os.OpenFile(filepath.Join(path, ownerFile), os.O_RDWR, 0)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if time.Since(info.ModTime()) > unfinished {
			d.runs[run] = path
		}
		return
	case err != nil:
		return
	}
	if err := lock(f); err != nil {
		f.Close()
		return
	}
	d.runs[run] = path
	d.locks = append(d.locks, f)
}
