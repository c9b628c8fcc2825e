package main

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	stdjson "encoding/json"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/spdx/tools-golang/json"

	"github.com/buildcage/buildcage/embed/artifact"
)

// pack is an archive of one file.
func pack(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(data)), Mode: 0o755, Format: tar.FormatUSTAR}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestRun lists this very test program, with itself in the image that it carries.
func TestRun(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	info, err := buildinfo.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	cages := t.TempDir()
	dir := filepath.Join(cages, setting(info, "GOARCH"))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	manifest, err := stdjson.Marshal(artifact.Manifest{
		Schema: artifact.Schema, Tag: artifact.Repository + ":0123", ID: "sha256:1", Layers: []string{"sha256:2"}, Arch: setting(info, "GOARCH"),
		Versions: map[string]string{"libseccomp": "2.5.4", "go": "go1"},
	})
	if err != nil {
		t.Fatal(err)
	}
	z, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		t.Fatal(err)
	}
	image := z.EncodeAll(pack(t, "blobs/layer", pack(t, "bin/inside", program)), nil)
	for name, data := range map[string][]byte{artifact.ManifestFile: manifest, artifact.ImageFile: image} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}

	document := filepath.Join(t.TempDir(), "list.json")
	if err := run(self, document, cages); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open(document)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	doc, err := json.Read(file)
	if err != nil {
		t.Fatalf("the document is no SPDX: %v", err)
	}
	var names []string
	for _, p := range doc.Packages {
		names = append(names, p.PackageName+" "+p.PackageVersion)
	}
	for _, want := range []string{"buildcage-cage 0123", "libseccomp 2.5.4", "inside in buildcage-cage", "stdlib "} {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, want) }) {
			t.Errorf("there is no %q in %v", want, names)
		}
	}
	if err := run(self, document, t.TempDir()); err == nil {
		t.Error("a program whose image is not there has a list")
	}
}

// A program that is another module's main one is listed as that module; ours
// is no component of itself.
func TestMainModule(t *testing.T) {
	for path, want := range map[string]int{"github.com/opencontainers/runc": 3, "github.com/buildcage/buildcage": 2} {
		l := newList("x")
		l.modules("root", &debug.BuildInfo{GoVersion: "go1.26", Main: debug.Module{Path: path, Version: "v1.4.3"},
			Deps: []*debug.Module{{Path: "example.com/a", Version: "v1.0.0"}}})
		if n := len(l.doc.Packages); n != want {
			t.Errorf("%s: %d packages, want %d", path, n, want)
		}
	}
}
