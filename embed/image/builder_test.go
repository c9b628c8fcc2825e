package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/buildcage/buildcage/embed/artifact"
)

func octal(n int64) string   { return strconv.FormatInt(n, 8) }
func decimal(n int64) string { return strconv.FormatInt(n, 10) }

// The tag follows from the content: other content, other tag.
func TestImageTag(t *testing.T) {
	tag := func(layer, version string) string {
		img, err := newImage("amd64", map[string]string{"runc": version}, "layer.tar", hashBytes([]byte(layer)))
		if err != nil {
			t.Fatal(err)
		}
		return img.tag()
	}
	base := tag("layer", "v1")
	if again := tag("layer", "v1"); again != base {
		t.Errorf("same content, tags %s and %s", base, again)
	}
	for name, other := range map[string]string{"layer": tag("other", "v1"), "version": tag("layer", "v2")} {
		if other == base {
			t.Errorf("other %s, same tag %s", name, base)
		}
	}
}

// Both descriptions of the archive, Docker's and OCI's, lead to the same image.
func TestImageEntries(t *testing.T) {
	img, err := newImage("arm64", nil, "layer.tar", hashBytes([]byte("layer")))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := img.entries()
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]entry)
	for _, e := range entries {
		files[e.path] = e
	}
	var docker []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	decode(t, files["manifest.json"].data, &docker)
	var index ocispec.Index
	decode(t, files["index.json"].data, &index)
	var manifest ocispec.Manifest
	decode(t, files[blobPath(index.Manifests[0])].data, &manifest)
	var config ocispec.Image
	decode(t, files[docker[0].Config].data, &config)

	if got, want := blobPath(manifest.Config), docker[0].Config; got != want {
		t.Errorf("OCI config %s, Docker config %s", got, want)
	}
	if diff := cmp.Diff([]string{blobPath(manifest.Layers[0])}, docker[0].Layers); diff != "" {
		t.Errorf("layers (-OCI +Docker):\n%s", diff)
	}
	if files[docker[0].Layers[0]].source != "layer.tar" {
		t.Error("layer is not in the archive")
	}
	if config.RootFS.DiffIDs[0] != manifest.Layers[0].Digest || config.Architecture != "arm64" {
		t.Errorf("configuration does not describe the layer: %+v", config)
	}
	if diff := cmp.Diff([]string{img.tag()}, docker[0].RepoTags); diff != "" {
		t.Errorf("tag (-want +got):\n%s", diff)
	}
}

func decode(t *testing.T, data []byte, v any) {
	t.Helper()
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%v in %q", err, data)
	}
}

// Only a whole image, built from these inputs, counts as current.
func TestCurrent(t *testing.T) {
	write := func(t *testing.T) *Builder {
		b := &Builder{Arch: "amd64", Out: t.TempDir()}
		image := filepath.Join(b.Out, artifact.ImageFile)
		if err := os.WriteFile(image, []byte("image"), 0o644); err != nil {
			t.Fatal(err)
		}
		err := b.writeManifest(&artifact.Manifest{
			Schema: artifact.Schema, Tag: "t", ID: "i", Layers: []string{"l"}, Arch: "amd64",
			File: hashBytes([]byte("image")), Inputs: "abc",
		})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	tests := []struct {
		name   string
		change func(t *testing.T, b *Builder)
		want   bool
	}{
		{name: "same", want: true},
		{name: "no image", change: func(t *testing.T, b *Builder) {
			os.Remove(filepath.Join(b.Out, artifact.ImageFile))
		}},
		{name: "no manifest", change: func(t *testing.T, b *Builder) {
			os.Remove(filepath.Join(b.Out, artifact.ManifestFile))
		}},
		{name: "damaged image", change: func(t *testing.T, b *Builder) {
			os.WriteFile(filepath.Join(b.Out, artifact.ImageFile), []byte("magic"), 0o644)
		}},
		{name: "other architecture", change: func(t *testing.T, b *Builder) { b.Arch = "arm64" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := write(t)
			if tt.change != nil {
				tt.change(t, b)
			}
			if _, err := b.current("abc"); (err == nil) != tt.want {
				t.Errorf("current: %v, want current %t", err, tt.want)
			}
			if _, err := b.current("def"); err == nil {
				t.Error("current although the inputs differ")
			}
		})
	}
}

// Two builds of two copies of the source tree give the same image. The first
// is what this tree embeds, from whenever it was built. The second one links every
// program again; compiled packages may come from Go's cache.
func TestReproducible(t *testing.T) {
	if os.Getenv("BUILDCAGE_TEST_IMAGE") == "" {
		t.Skip("builds the whole cage image: set BUILDCAGE_TEST_IMAGE=1")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	one, _ := build(t, &Builder{
		Root: root,
		Out:  filepath.Join(root, "embed", "cage", runtime.GOARCH),
		Work: filepath.Join(root, ".cache", "cage", runtime.GOARCH),
	})
	work := t.TempDir()
	two, built := build(t, &Builder{Root: copyTree(t, root), Out: t.TempDir(), Work: work})
	if !built {
		t.Fatal("an empty directory counts as current")
	}
	if diff := cmp.Diff(one, two); diff != "" {
		t.Errorf("two builds (-one +two):\n%s", diff)
	}
	const limit = 120e6
	if one.Tar.Size > limit {
		t.Errorf("image is %d bytes, the limit is %.0f", one.Tar.Size, float64(limit))
	}
	for program, module := range map[string]string{"buildkitd": "buildkit", "runc": "runc"} {
		out, err := exec.Command(filepath.Join(work, "bin", program), "--version").CombinedOutput()
		if err != nil || !strings.Contains(string(out), strings.TrimPrefix(two.Versions[module], "v")) {
			t.Errorf("%s says %q, %v; want version %s", program, out, err, two.Versions[module])
		}
	}
}

func build(t *testing.T, b *Builder) (*artifact.Manifest, bool) {
	t.Helper()
	var log bytes.Buffer
	b.Arch, b.Log = runtime.GOARCH, &log
	m, built, err := b.Build(t.Context())
	if err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	return m, built
}

// copyTree copies what the image is built from.
func copyTree(t *testing.T, root string) string {
	t.Helper()
	dst := t.TempDir()
	for _, dir := range []string{"cmd", "internal", "embed/image", "embed/artifact"} {
		if err := os.CopyFS(filepath.Join(dst, dir), os.DirFS(filepath.Join(root, dir))); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dst, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dst
}
