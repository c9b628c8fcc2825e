package image_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/docker/dockertest"
	"github.com/buildcage/buildcage/internal/image"
)

func imageOf(a dockertest.Archive) image.Image {
	return image.Image{Tag: a.Tag, IDs: []string{a.ID}, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(a.Tar)), nil
	}}
}

func TestEnsure(t *testing.T) {
	api := dockertest.Client(t)
	img := imageOf(dockertest.NewArchive(t, api, dockertest.Repository()))
	for _, want := range []bool{true, false} {
		id, loaded, err := image.Ensure(t.Context(), api, img)
		if err != nil || id != img.IDs[0] || loaded != want {
			t.Fatalf("Ensure: %q, loaded %t, %v; want %q, %t", id, loaded, err, img.IDs[0], want)
		}
	}
	if _, err := api.ImageRemove(t.Context(), img.Tag, client.ImageRemoveOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, loaded, err := image.Ensure(t.Context(), api, img); err != nil || !loaded {
		t.Errorf("Ensure after the image was removed: loaded %t, %v", loaded, err)
	}
}

func TestEnsureAtOnce(t *testing.T) {
	api := dockertest.Client(t)
	img := imageOf(dockertest.NewArchive(t, api, dockertest.Repository()))
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if id, _, err := image.Ensure(t.Context(), api, img); err != nil || id != img.IDs[0] {
				t.Errorf("Ensure: %q, %v", id, err)
			}
		})
	}
	all.Wait()
}

// What the engine made of the archive must be what the program carries.
func TestEnsureRefuses(t *testing.T) {
	api := dockertest.Client(t)
	a := dockertest.NewArchive(t, api, dockertest.Repository())
	other := imageOf(a)
	other.IDs = []string{"sha256:" + strings.Repeat("0", 64)}
	broken := imageOf(a)
	broken.Open = func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(a.Tar[:len(a.Tar)/2])), nil
	}
	missing := imageOf(a)
	missing.Open = func() (io.ReadCloser, error) { return nil, errors.New("carries no image") }
	for _, tt := range []struct { // the last one loads the image
		text string
		img  image.Image
	}{{"carries no image", missing}, {"loading the cage image", broken}, {"something else as", other}} {
		if id, _, err := image.Ensure(t.Context(), api, tt.img); err == nil || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("Ensure: %q, %v; want an error with %q", id, err, tt.text)
		}
	}
}

// fullDisk answers a load the way a real engine does when its disk is full:
// with a good status and an error at the end of the stream.
type fullDisk struct{ client.ImageAPIClient }

func (fullDisk) ImageInspect(context.Context, string, ...client.ImageInspectOption) (client.ImageInspectResult, error) {
	return client.ImageInspectResult{}, errdefs.ErrNotFound
}

func (fullDisk) ImageLoad(context.Context, io.Reader, ...client.ImageLoadOption) (client.ImageLoadResult, error) {
	return io.NopCloser(strings.NewReader(`{"status":"Loading layer"}
{"errorDetail":{"message":"Error processing tar file(exit status 1): write /bin/buildkitd: no space left on device"},"error":"…"}`)), nil
}

func TestEnsureFullDisk(t *testing.T) {
	img := image.Image{Tag: "x:1", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("")), nil }}
	_, _, err := image.Ensure(t.Context(), fullDisk{}, img)
	if !docker.IsKind(err, docker.DiskFull) {
		t.Errorf("Ensure: %v, want kind %q", err, docker.DiskFull)
	}
}

// store is an engine's images, with what was removed of them.
type store struct {
	client.ImageAPIClient
	images  []apiimage.Summary
	tagged  map[string]time.Time
	inUse   string
	removed []string
}

func (s *store) ImageList(context.Context, client.ImageListOptions) (client.ImageListResult, error) {
	return client.ImageListResult{Items: s.images}, nil
}

func (s *store) ImageInspect(_ context.Context, id string, _ ...client.ImageInspectOption) (r client.ImageInspectResult, _ error) {
	r.Metadata.LastTagTime = s.tagged[id]
	return r, nil
}

func (s *store) ImageRemove(_ context.Context, name string, o client.ImageRemoveOptions) (client.ImageRemoveResult, error) {
	if name == s.inUse && !o.Force {
		return client.ImageRemoveResult{}, errdefs.ErrConflict
	}
	s.removed = append(s.removed, name)
	return client.ImageRemoveResult{}, nil
}

func TestPrune(t *testing.T) {
	s := &store{
		images: []apiimage.Summary{
			{ID: "current", RepoTags: []string{"cage:2"}},
			{ID: "old", RepoTags: []string{"cage:1", "cage:old"}},
			{ID: "untagged"},
			{ID: "none", RepoTags: []string{"<none>:<none>"}},
			{ID: "named by somebody", RepoTags: []string{"cage:0", "mine:1"}},
			{ID: "running", RepoTags: []string{"cage:0.9"}},
			{ID: "just loaded", RepoTags: []string{"cage:3"}},
		},
		tagged: map[string]time.Time{"just loaded": time.Now()},
		inUse:  "cage:0.9",
	}
	if err := image.Prune(t.Context(), s, image.Image{Tag: "cage:2", IDs: []string{"current"}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"cage:1", "cage:old", "untagged", "none"}, s.removed); diff != "" {
		t.Errorf("removed (-want +got):\n%s", diff)
	}
}
