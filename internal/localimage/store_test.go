package localimage

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gofrs/flock"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/buildcage/buildcage/internal/dockerfile"
)

// engine answers the three requests that a Store makes, over HTTP.
type engine struct {
	images map[string]string // inspect answers by name
	saves  map[string][]byte // archives by id
	// registry has these images.
	registry []string
	saved    int
	cut      int // bytes after which a save breaks off; 0: never
}

func (e *engine) client(t *testing.T) client.APIClient {
	t.Helper()
	srv := httptest.NewServer(e)
	t.Cleanup(srv.Close)
	c, err := client.New(client.WithHost("tcp://"+srv.Listener.Addr().String()), client.WithAPIVersion("1.44"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (e *engine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, path, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/") // without the version
	w.Header().Set("Content-Type", "application/json")
	switch {
	case path == "images/get":
		e.saved++
		dt := e.saves[r.URL.Query().Get("names")]
		if e.cut > 0 {
			w.Header().Set("Content-Length", fmt.Sprint(len(dt)))
			dt = dt[:e.cut]
		}
		_, _ = w.Write(dt)
	case strings.HasPrefix(path, "images/"):
		name := strings.TrimSuffix(strings.TrimPrefix(path, "images/"), "/json")
		if answer, ok := e.images[name]; ok {
			_, _ = io.WriteString(w, answer)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"no such image"}`)
	case strings.HasPrefix(path, "distribution/"):
		name := strings.TrimSuffix(strings.TrimPrefix(path, "distribution/"), "/json")
		if slices.Contains(e.registry, name) {
			_, _ = io.WriteString(w, `{}`)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"manifest unknown"}`)
	}
}

// entry of a tar made by a test.
type entry struct{ name, body, link string }

func archiveOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Mode: 0o644, Size: int64(len(e.body)), Typeflag: tar.TypeReg}
		if e.link != "" {
			h.Typeflag, h.Linkname = tar.TypeSymlink, e.link
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sum(s string) string { return digest.FromString(s).String() }

// image is what docker save of engine 20.10 looks like: two layers, the second
// shared by a link, rubbish of older formats, manifest.json last.
func image(t *testing.T, layer string) (id string, archive []byte) {
	config := fmt.Sprintf(`{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"OnBuild":["RUN x"]},"rootfs":{"type":"layers","diff_ids":[%q,%q]}}`, sum(layer), sum(layer))
	id = sum(config)
	name := strings.TrimPrefix(id, "sha256:") + ".json"
	return id, archiveOf(t,
		entry{name: "aaa/VERSION", body: "1.0"},
		entry{name: "aaa/json", body: "{}"},
		entry{name: "aaa/layer.tar", body: layer},
		entry{name: "bbb/layer.tar", link: "../aaa/layer.tar"},
		entry{name: name, body: config},
		entry{name: "manifest.json", body: fmt.Sprintf(`[{"Config":%q,"RepoTags":null,"Layers":["aaa/layer.tar","bbb/layer.tar"]}]`, name)},
	)
}

func inspect(id, arch string, digests ...string) string {
	dt, _ := json.Marshal(map[string]any{"Id": id, "Architecture": arch, "Os": "linux", "RepoDigests": digests, "Size": 5})
	return string(dt)
}

func refs(t *testing.T, text string) []Ref {
	t.Helper()
	plan, err := Read([]byte(text), dockerfile.Options{Native: ocispecs.Platform{OS: "linux", Architecture: "amd64"}})
	if err != nil {
		t.Fatal(err)
	}
	return plan.Refs
}

func TestProvide(t *testing.T) {
	id, dt := image(t, "layer one")
	e := &engine{
		images: map[string]string{
			"docker.io/library/base:latest": inspect(id, "amd64"),
			"docker.io/library/arm:1":       inspect("sha256:1", "arm64"),
		},
		saves: map[string][]byte{id: dt},
	}
	s := &Store{Engine: e.client(t), Dir: t.TempDir()}
	want := refs(t, "FROM base\nCOPY --from=arm:1 / /\nCOPY --from=elsewhere:1 / /\n")
	for range 2 {
		lease, err := s.Provide(t.Context(), want)
		if err != nil {
			t.Fatal(err)
		}
		if len(lease.Contexts) != 1 || lease.Contexts[0].Name != "base" {
			t.Fatalf("contexts %+v, want base only", lease.Contexts)
		}
		checkLayout(t, lease.Contexts[0].Source, id)
		lease.Release()
	}
	if e.saved != 1 {
		t.Errorf("saved %d times, want once", e.saved)
	}
}

// checkLayout reads a layout as BuildKit would.
func checkLayout(t *testing.T, source, configID string) {
	t.Helper()
	dir, dgst, _ := strings.Cut(strings.TrimPrefix(source, "oci-layout://"), "@")
	blob := func(d digest.Digest) []byte {
		dt, err := os.ReadFile(filepath.Join(dir, "blobs", "sha256", d.Encoded()))
		if err != nil {
			t.Fatal(err)
		}
		if digest.FromBytes(dt) != d {
			t.Errorf("blob %s has other content", d)
		}
		return dt
	}
	var m ocispecs.Manifest
	if err := json.Unmarshal(blob(digest.Digest(dgst)), &m); err != nil {
		t.Fatal(err)
	}
	if m.Config.Digest.String() != configID || m.MediaType != ocispecs.MediaTypeImageManifest {
		t.Errorf("manifest %+v, want configuration %s", m, configID)
	}
	if !bytes.Contains(blob(m.Config.Digest), []byte("OnBuild")) {
		t.Error("the configuration lost ONBUILD")
	}
	for _, l := range m.Layers {
		if blob(l.Digest); l.MediaType != ocispecs.MediaTypeImageLayer {
			t.Errorf("layer type %s", l.MediaType)
		}
	}
	files, err := os.ReadDir(filepath.Join(dir, "blobs", "sha256"))
	if err != nil || len(files) != 3 { // manifest, configuration, one layer twice
		t.Errorf("%d blobs, want 3 (%v)", len(files), err)
	}
}

func TestPull(t *testing.T) {
	id, dt := image(t, "layer")
	e := &engine{
		images: map[string]string{
			"docker.io/library/mine:1":   inspect(id, "amd64"),
			"docker.io/library/both:1":   inspect(id, "amd64", "both@"+id),
			"docker.io/library/denied:1": inspect(id, "amd64", "denied@"+id),
		},
		saves:    map[string][]byte{id: dt},
		registry: []string{"docker.io/library/both:1"},
	}
	var told []string
	s := &Store{Engine: e.client(t), Dir: t.TempDir(), Pull: true, Tell: func(l string) { told = append(told, l) }}
	lease, err := s.Provide(t.Context(), refs(t, "FROM mine:1\nFROM both:1\nFROM denied:1\nCOPY --from=0 / /\nCOPY --from=1 / /\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer lease.Release()
	var names []string
	for _, c := range lease.Contexts {
		names = append(names, c.Name)
	}
	if got := strings.Join(names, " "); got != "mine:1 denied:1" {
		t.Errorf("from the engine: %s, want those that the registry lacks", got)
	}
	all := strings.Join(told, "\n")
	for _, want := range []string{"mine:1 was never pulled or pushed", "the registry has no denied:1"} {
		if !strings.Contains(all, want) {
			t.Errorf("nobody was told %q in\n%s", want, all)
		}
	}
}

func TestBroken(t *testing.T) {
	id, dt := image(t, "content")
	other := strings.Replace(string(dt), "content", "CONTENT", 1)
	for _, tc := range []struct {
		name, want string
		archive    []byte
		cut        int
	}{
		{name: "cut off", archive: dt, cut: 700, want: "unexpected EOF"},
		{name: "empty", archive: archiveOf(t), want: `no "manifest.json"`},
		{name: "no image", archive: archiveOf(t, entry{name: "manifest.json", body: "[]"}), want: "has 0 images"},
		{name: "missing layer", archive: archiveOf(t, entry{name: "c", body: "{}"}, entry{name: "manifest.json", body: `[{"Config":"c","Layers":["l"]}]`}), want: `no "l"`},
		{name: "too few layers", archive: archiveOf(t, entry{name: "c", body: `{"rootfs":{"diff_ids":["sha256:1"]}}`}, entry{name: "manifest.json", body: `[{"Config":"c"}]`}), want: "has 0 layers"},
		{name: "other layer", archive: []byte(other), want: "its configuration says"},
		{name: "link loop", archive: archiveOf(t, entry{name: "manifest.json", link: "manifest.json"}), want: `no "manifest.json"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &engine{images: map[string]string{"docker.io/library/a:1": inspect(id, "amd64")}, saves: map[string][]byte{id: tc.archive}, cut: tc.cut}
			s := &Store{Engine: e.client(t), Dir: t.TempDir()}
			_, err := s.Provide(t.Context(), refs(t, "FROM a:1\n"))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %q", err, tc.want)
			}
			empty(t, s.Dir)
		})
	}
}

// empty proves that nothing but locks is left.
func empty(t *testing.T, dir string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if filepath.Ext(f.Name()) != lockSuffix {
			t.Errorf("%s is left", f.Name())
		}
	}
}

func TestCancel(t *testing.T) {
	id, _ := image(t, "layer")
	ctx, cancel := context.WithCancel(t.Context())
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/images/get") {
			_, _ = w.Write(archiveOf(t, entry{name: "x", body: strings.Repeat("x", 100)})[:600])
			w.(http.Flusher).Flush()
			cancel()
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, inspect(id, "amd64"))
	}))
	defer srv.Close()
	c, err := client.New(client.WithHost("tcp://"+srv.Listener.Addr().String()), client.WithAPIVersion("1.44"))
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{Engine: c, Dir: t.TempDir()}
	if _, err := s.Provide(ctx, refs(t, "FROM a:1\n")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want a cancellation", err)
	}
	empty(t, s.Dir)
}

func TestPrune(t *testing.T) {
	s := &Store{Dir: t.TempDir(), Limit: 250}
	now := time.Now()
	put := func(name string, age time.Duration) {
		dir := filepath.Join(s.Dir, name)
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "index.json"), make([]byte, 100), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(dir, now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	put("new", 0)
	put("middle", time.Hour)
	put("old", 2*time.Hour)
	put("oldest-but-used", 3*time.Hour)
	put("killed.part", 0)
	lock := hold(t, filepath.Join(s.Dir, "oldest-but-used.lock"))
	s.prune()
	var left []string
	for _, e := range s.entries() {
		left = append(left, filepath.Base(e.path))
	}
	slices.Sort(left)
	if got := strings.Join(left, " "); got != "middle new oldest-but-used" {
		t.Errorf("left %q, want neither the old one nor what a killed run left", got)
	}
	lock()
}

func TestDiskError(t *testing.T) {
	err := disk(fmt.Errorf("storing: %w", &os.PathError{Op: "write", Path: "x", Err: syscall.ENOSPC}))
	var d *DiskError
	if !errors.As(err, &d) || !d.Full || !strings.HasPrefix(d.Error(), "no space left") || d.Hint() == "" {
		t.Errorf("%v is not a full disk", err)
	}
	if errors.As(disk(errors.New("engine")), &d) {
		t.Error("an engine's error became the disk's")
	}
}

// hold takes a shared lock, as a build does.
func hold(t *testing.T, path string) (release func()) {
	t.Helper()
	lock := flock.New(path)
	if ok, err := lock.TryRLock(); err != nil || !ok {
		t.Fatal("not locked", err)
	}
	return func() { _ = lock.Close() }
}
