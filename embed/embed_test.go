package embed

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/buildcage/buildcage/embed/artifact"
)

// built returns the directory that the image builder would write for content.
func built(t *testing.T, content string, change func(*artifact.Manifest)) fstest.MapFS {
	t.Helper()
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	packed := enc.EncodeAll([]byte(content), nil)
	m := artifact.Manifest{
		Schema: artifact.Schema,
		Tag:    artifact.Repository + ":0123456789abcdef",
		ID:     "sha256:0123456789abcdef",
		Layers: []string{"sha256:aa"},
		Arch:   "riscv64",
		File:   artifact.Blob{Size: int64(len(packed))},
	}
	if change != nil {
		change(&m)
	}
	data, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{
		artifact.ImageFile:    {Data: packed},
		artifact.ManifestFile: {Data: data},
	}
}

func TestFind(t *testing.T) {
	tests := []struct {
		name    string
		change  func(*artifact.Manifest)
		drop    string
		want    string // part of the error; "" is success
		missing bool
	}{
		{name: "complete"},
		{name: "no manifest", drop: artifact.ManifestFile, want: "carries no cage image for riscv64", missing: true},
		{name: "no image", drop: artifact.ImageFile, want: "carries no cage image for riscv64", missing: true},
		{name: "truncated", change: func(m *artifact.Manifest) { m.File.Size++ }, want: "manifest says"},
		{name: "other architecture", change: func(m *artifact.Manifest) { m.Arch = "s390x" }, want: `image is for "s390x"`},
		{name: "other schema", change: func(m *artifact.Manifest) { m.Schema = "v9" }, want: `schema is "v9"`},
		{name: "no tag", change: func(m *artifact.Manifest) { m.Tag = "" }, want: "incomplete"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fsys := built(t, "tar", tt.change)
			delete(fsys, tt.drop)
			img, err := find(fsys, "riscv64")
			if tt.want == "" {
				if err != nil || img == nil {
					t.Fatalf("find: %v, %v", img, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("find: error %v, want one with %q", err, tt.want)
			}
			var missing *MissingError
			if errors.As(err, &missing) != tt.missing {
				t.Errorf("find: error is %T, missing should be %t", err, tt.missing)
			}
		})
	}
}

func TestOpen(t *testing.T) {
	want := strings.Repeat("the cage ", 1000)
	img, err := find(built(t, want, nil), "riscv64")
	if err != nil {
		t.Fatal(err)
	}
	r, err := img.Open()
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	if _, err := io.Copy(&got, r); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Errorf("image (-want +got):\n%s", diff)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// The bytes that a binary carries are either a whole image or none.
func TestCage(t *testing.T) {
	img, err := Cage()
	var missing *MissingError
	if errors.As(err, &missing) {
		if missing.Hint() == "" {
			t.Error("missing image without a hint")
		}
		if _, err := fs.Stat(files, "cage/"+runtime.GOARCH+"/"+artifact.ManifestFile); err == nil {
			t.Error("manifest is embedded, image is called missing")
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	r, err := img.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	n, err := io.Copy(io.Discard, r)
	if err != nil || n != img.Tar.Size {
		t.Errorf("image: %d bytes and %v, manifest says %d", n, err, img.Tar.Size)
	}
}
