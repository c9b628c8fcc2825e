package dockertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/buildcage/buildcage/internal/contract"
)

// Archive is a loadable image with a stand-in for caged in it. Every call makes
// another image, so that tests do not remove each other's.
type Archive struct {
	Tag string
	ID  string
	Tar []byte
}

// NewArchive builds the stand-in and packs it. The image is removed from the
// engine, if it gets there, when the test ends.
func NewArchive(t testing.TB, api client.ImageAPIClient, repository string) Archive {
	t.Helper()
	layer := tarOf(t, map[string][]byte{"bin/caged": standin(t)})
	config, err := json.Marshal(ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Config: ocispec.ImageConfig{
			Entrypoint: []string{path.Join(contract.BinDir, "caged")},
			Labels:     map[string]string{contract.Label: "1", contract.Label + ".test": nonce()},
		},
		RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(config)
	id := hex.EncodeToString(sum[:])
	a := Archive{Tag: repository + ":" + id[:16], ID: "sha256:" + id}
	manifest, err := json.Marshal([]map[string]any{{
		"Config": "config.json", "RepoTags": []string{a.Tag}, "Layers": []string{"layer.tar"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a.Tar = tarOf(t, map[string][]byte{"layer.tar": layer, "config.json": config, "manifest.json": manifest})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanTime)
		defer cancel()
		_, err := api.ImageRemove(ctx, a.ID, client.ImageRemoveOptions{Force: true, PruneChildren: true})
		if err != nil && !errdefs.IsNotFound(err) {
			t.Error(err)
		}
	})
	return a
}

// Repository is a repository name that no other test uses.
func Repository() string { return "buildcage-test-" + nonce() }

// standin compiles testdata/standin for the engine's machine.
func standin(t testing.TB) []byte {
	t.Helper()
	// A test runs in its package's directory, which is in the module.
	const source = "github.com/buildcage/buildcage/internal/docker/dockertest/testdata/standin"
	out := filepath.Join(t.TempDir(), "caged")
	build := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", out, source)
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building the stand-in: %v\n%s", err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func tarOf(t testing.TB, files map[string][]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, data := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(data))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
