package localimage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/gofrs/flock"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// DefaultLimit bounds the exported images that are kept for the next build.
const DefaultLimit = 10 << 30

const (
	lockRetry = 50 * time.Millisecond
	// attempts to export an image and lock it before another process' prune
	// takes it away in between.
	attempts = 4
)

// Store exports images of an engine and keeps them as OCI layouts.
type Store struct {
	Engine client.APIClient
	Dir    string // private to this store; created when needed
	Limit  int64  // bytes to keep; 0: DefaultLimit
	// Pull prefers the registry: an image is taken from the engine only when
	// the registry does not have it.
	Pull bool
	// Auth is the encoded registry credential that the engine asks the
	// registry with when Pull is set; nil: none.
	Auth func(image string) string
	// Tell gets a line when something takes long or is unexpected; nil: nobody.
	Tell func(line string)
}

// Context is an image as a named build context.
type Context struct {
	Name   string // Ref.Key
	Source string // oci-layout://DIR@sha256:…
}

// Lease holds exported images while a build uses them.
type Lease struct {
	Contexts []Context
	locks    []*flock.Flock
}

// Release lets the images be removed again. It may be called twice.
func (l *Lease) Release() {
	for _, lock := range l.locks {
		_ = lock.Close()
	}
	l.locks = nil
}

// Provide exports those of refs that the engine has for the platform asked
// for. The others are left to the registry. The caller releases the lease.
func (s *Store) Provide(ctx context.Context, refs []Ref) (_ *Lease, err error) {
	lease := &Lease{}
	defer func() {
		if err != nil {
			lease.Release()
		}
	}()
	exported := false
	for _, r := range refs {
		img, ok, err := s.find(ctx, r)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue
		}
		fresh, err := s.acquire(ctx, lease, r, img)
		if err != nil {
			return nil, err
		}
		exported = exported || fresh
	}
	if exported {
		s.prune()
	}
	return lease, nil
}

// find looks an image up in the engine.
func (s *Store) find(ctx context.Context, r Ref) (client.ImageInspectResult, bool, error) {
	var opts []client.ImageInspectOption
	if versions.GreaterThanOrEqualTo(s.Engine.ClientVersion(), "1.49") {
		opts = append(opts, client.ImageInspectWithPlatform(&r.Platform))
	}
	img, err := s.Engine.ImageInspect(ctx, r.Name, opts...)
	if errdefs.IsNotFound(err) {
		return img, false, nil
	}
	if err != nil {
		return img, false, fmt.Errorf("looking %s up in the engine: %w", r.Key, err)
	}
	if !runs(img, r.Platform) {
		return img, false, nil
	}
	return img, !s.Pull || !s.pullable(ctx, r, img), nil
}

// Has says that the engine has an image which Provide would take.
func (s *Store) Has(ctx context.Context, r Ref) bool {
	quiet := *s
	quiet.Pull = false
	_, ok, err := quiet.find(ctx, r)
	return err == nil && ok
}

// runs says that an image is for a platform. An image without a variant fits
// every variant.
func runs(img client.ImageInspectResult, want ocispecs.Platform) bool {
	have := platforms.Normalize(ocispecs.Platform{OS: img.Os, Architecture: img.Architecture, Variant: img.Variant})
	want = platforms.Normalize(want)
	return have.OS == want.OS && have.Architecture == want.Architecture &&
		(have.Variant == want.Variant || have.Variant == "" || want.Variant == "")
}

// pullable says that --pull finds the image in its registry.
func (s *Store) pullable(ctx context.Context, r Ref, img client.ImageInspectResult) bool {
	if len(img.RepoDigests) == 0 {
		s.tell("%s was never pulled or pushed: --pull uses the engine's image", r.Key)
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	var opt client.DistributionInspectOptions
	if s.Auth != nil {
		opt.EncodedRegistryAuth = s.Auth(r.Name)
	}
	if _, err := s.Engine.DistributionInspect(ctx, r.Name, opt); err != nil {
		s.tell("the registry has no %s that we may pull: --pull uses the engine's image", r.Key)
		return false
	}
	return true
}

// acquire puts an image into the lease and says whether it had to be exported.
func (s *Store) acquire(ctx context.Context, lease *Lease, r Ref, img client.ImageInspectResult) (fresh bool, err error) {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return false, disk(fmt.Errorf("creating the image cache: %w", err))
	}
	entry := s.entry(img)
	for range attempts {
		lock := flock.New(entry + lockSuffix)
		if _, err := lock.TryRLockContext(ctx, lockRetry); err != nil {
			return false, locking(err)
		}
		if dgst, ok := manifestOf(entry); ok {
			now := time.Now()
			_ = os.Chtimes(entry, now, now) // the age that prune goes by
			lease.locks = append(lease.locks, lock)
			lease.Contexts = append(lease.Contexts, Context{Name: r.Key, Source: "oci-layout://" + entry + "@" + dgst.String()})
			return fresh, nil
		}
		if err := lock.Close(); err != nil {
			return false, locking(err)
		}
		if err := s.exportLocked(ctx, entry, r, img); err != nil {
			return false, err
		}
		fresh = true
	}
	return false, fmt.Errorf("copying %s from the engine: other builds remove it from the cache as fast", r.Key)
}

// exportLocked makes the entry unless another process was faster.
func (s *Store) exportLocked(ctx context.Context, entry string, r Ref, img client.ImageInspectResult) error {
	lock := flock.New(entry + lockSuffix)
	if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
		return locking(err)
	}
	defer lock.Close()
	if _, ok := manifestOf(entry); ok {
		return nil
	}
	s.tell("copying %s from the engine (%s)", r.Key, size(img.Size))
	if err := s.export(ctx, entry, r, img); err != nil {
		return fmt.Errorf("copying %s from the engine: %w", r.Key, err)
	}
	return nil
}

// entry is where an image is kept. An id can stand for several platforms.
func (s *Store) entry(img client.ImageInspectResult) string {
	name := strings.ReplaceAll(img.ID, ":", "-") + "-" + img.Architecture + img.Variant
	return filepath.Join(s.Dir, filepath.Base(name))
}

func (s *Store) tell(format string, args ...any) {
	if s.Tell != nil {
		s.Tell(fmt.Sprintf(format, args...))
	}
}

func locking(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return disk(fmt.Errorf("locking the image cache: %w", err))
}

func size(n int64) string {
	if n < 1<<20 {
		return "under 1 MB"
	}
	return fmt.Sprintf("%d MB", n/1000000)
}
