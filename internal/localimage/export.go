package localimage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// suffixes of what stands beside an entry.
const (
	partSuffix = ".part"
	lockSuffix = ".lock"
)

// export saves an image into a directory beside the entry and renames it when
// it is complete. The caller holds the entry's lock.
func (s *Store) export(ctx context.Context, entry string, r Ref, img client.ImageInspectResult) (err error) {
	part := entry + partSuffix
	for _, dir := range []string{part, entry} { // of a killed run
		if err := os.RemoveAll(dir); err != nil {
			return disk(err)
		}
	}
	defer func() {
		if err != nil {
			_ = os.RemoveAll(part)
		}
	}()
	var opts []client.ImageSaveOption
	if versions.GreaterThanOrEqualTo(s.Engine.ClientVersion(), "1.48") {
		opts = append(opts, client.ImageSaveWithPlatforms(r.Platform))
	}
	// By id: the name may mean another image by now.
	stream, err := s.Engine.ImageSave(ctx, []string{img.ID}, opts...)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := convert(ctx, stream, part); err != nil {
		return disk(err)
	}
	if err := os.Rename(part, entry); err != nil {
		return disk(err)
	}
	return nil
}

// manifestOf reads the one manifest of a complete entry.
func manifestOf(entry string) (digest.Digest, bool) {
	dt, err := os.ReadFile(filepath.Join(entry, ocispecs.ImageIndexFile))
	if err != nil {
		return "", false
	}
	var index ocispecs.Index
	if err := json.Unmarshal(dt, &index); err != nil || len(index.Manifests) != 1 {
		return "", false
	}
	dgst := index.Manifests[0].Digest
	return dgst, dgst.Validate() == nil
}

// prune removes what killed runs left, then the entries that were used longest
// ago until the rest is within the limit. What a build uses stays. It is house
// keeping: an entry that can't be removed is tried again next time.
func (s *Store) prune() {
	limit := s.Limit
	if limit == 0 {
		limit = DefaultLimit
	}
	kept := s.entries()
	slices.SortFunc(kept, func(a, b resident) int { return b.used.Compare(a.used) })
	var total int64
	for _, e := range kept {
		if e.partial {
			s.remove(e.path)
			continue
		}
		if total += e.size; total > limit {
			s.remove(e.path)
		}
	}
}

// resident is one entry, or what a killed run left of one.
type resident struct {
	path    string
	used    time.Time
	size    int64
	partial bool
}

func (s *Store) entries() []resident {
	files, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil
	}
	var out []resident
	for _, f := range files {
		info, err := f.Info()
		if err != nil || !f.IsDir() {
			continue
		}
		path := filepath.Join(s.Dir, f.Name())
		out = append(out, resident{
			path: path, used: info.ModTime(), size: usage(path),
			partial: filepath.Ext(path) == partSuffix,
		})
	}
	return out
}

// remove deletes an entry that nobody holds. The index goes first: without it
// the entry does not count, however much of it is left.
func (s *Store) remove(path string) {
	entry := path
	if filepath.Ext(path) == partSuffix {
		entry = path[:len(path)-len(partSuffix)]
	}
	lock := flock.New(entry + lockSuffix)
	if ok, err := lock.TryLock(); err != nil || !ok {
		return
	}
	defer lock.Close()
	_ = os.Remove(filepath.Join(path, ocispecs.ImageIndexFile))
	_ = os.RemoveAll(path)
}

func usage(dir string) int64 {
	var total int64
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return nil
	})
	return total
}

// DiskError is a cache that can't be written.
type DiskError struct {
	Full bool
	Err  error
}

func (e *DiskError) Error() string {
	if e.Full {
		return "no space left for the engine's images: " + e.Err.Error()
	}
	return e.Err.Error()
}

func (e *DiskError) Unwrap() error { return e.Err }

func (e *DiskError) Hint() string {
	if e.Full {
		return "free some space, or point XDG_CACHE_HOME at a larger disk"
	}
	return "the user's cache directory must be writable; XDG_CACHE_HOME moves it"
}

// disk marks errors of the local file system.
func disk(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(err, &path) || errors.As(err, &link) {
		return &DiskError{Full: errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT), Err: err}
	}
	return err
}

func writeJSON(dir, name string, v any) error {
	dt, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", name, err)
	}
	return os.WriteFile(filepath.Join(dir, name), dt, 0o600)
}
