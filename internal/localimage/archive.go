package localimage

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// archive is an image as the engine saves it: a tar of blobs whose meaning
// manifest.json tells, which may come last. Blobs go to disk under their
// digests as they arrive; names in the tar are only ever map keys.
type archive struct {
	dir   string
	blobs map[string]ocispecs.Descriptor // by name in the tar
	links map[string]string
	kept  map[digest.Digest]bool
}

// saved is manifest.json.
type saved struct {
	Config string
	Layers []string
}

// convert writes the one image of a saved archive as an OCI layout into dir.
func convert(ctx context.Context, r io.Reader, dir string) error {
	a := &archive{dir: dir, blobs: map[string]ocispecs.Descriptor{}, links: map[string]string{}, kept: map[digest.Digest]bool{}}
	if err := os.MkdirAll(a.blobDir(), 0o700); err != nil {
		return err
	}
	if err := a.unpack(ctx, tar.NewReader(r)); err != nil {
		return err
	}
	manifest, err := a.manifest()
	if err != nil {
		return err
	}
	return a.finish(manifest)
}

func (a *archive) blobDir() string { return filepath.Join(a.dir, ocispecs.ImageBlobsDir, "sha256") }

func (a *archive) blob(d digest.Digest) string { return filepath.Join(a.blobDir(), d.Encoded()) }

func (a *archive) unpack(ctx context.Context, tr *tar.Reader) error {
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return cause(ctx, fmt.Errorf("reading the saved image: %w", err))
		}
		name := path.Clean(h.Name)
		switch h.Typeflag {
		case tar.TypeReg:
			if a.blobs[name], err = a.store(tr); err != nil {
				return cause(ctx, fmt.Errorf("storing %q of the saved image: %w", name, err))
			}
		case tar.TypeSymlink: // engines before 25 share equal layers this way
			a.links[name] = path.Join(path.Dir(name), h.Linkname)
		case tar.TypeLink:
			a.links[name] = path.Clean(h.Linkname)
		}
	}
}

// cause prefers the reason of a cancelled context to what it made fail.
func cause(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// store writes one blob under its digest.
func (a *archive) store(r io.Reader) (_ ocispecs.Descriptor, err error) {
	f, err := os.CreateTemp(a.blobDir(), "new-")
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	hash := digest.SHA256.Digester()
	var head prefix
	n, err := io.Copy(io.MultiWriter(f, hash.Hash(), &head), r)
	if err != nil {
		return ocispecs.Descriptor{}, err
	}
	if err := f.Close(); err != nil {
		return ocispecs.Descriptor{}, err
	}
	d := ocispecs.Descriptor{MediaType: head.layerType(), Digest: hash.Digest(), Size: n}
	return d, os.Rename(f.Name(), a.blob(d.Digest))
}

// prefix remembers the first bytes written to it.
type prefix []byte

func (p *prefix) Write(b []byte) (int, error) {
	if n := 4 - len(*p); n > 0 {
		*p = append(*p, b[:min(n, len(b))]...)
	}
	return len(b), nil
}

func (p prefix) layerType() string {
	switch {
	case bytes.HasPrefix(p, []byte{0x1f, 0x8b}):
		return ocispecs.MediaTypeImageLayerGzip
	case bytes.HasPrefix(p, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return ocispecs.MediaTypeImageLayerZstd
	}
	return ocispecs.MediaTypeImageLayer
}

// find is a blob by its name in the tar, through at most a few links.
func (a *archive) find(name string) (ocispecs.Descriptor, error) {
	name = path.Clean(name)
	for range 8 {
		if d, ok := a.blobs[name]; ok {
			a.kept[d.Digest] = true
			return d, nil
		}
		next, ok := a.links[name]
		if !ok {
			break
		}
		name = next
	}
	return ocispecs.Descriptor{}, fmt.Errorf("the saved image has no %q", name)
}

// read decodes a small JSON blob.
func (a *archive) read(d ocispecs.Descriptor, v any) error {
	const limit = 16 << 20
	if d.Size > limit {
		return fmt.Errorf("%s of the saved image has %d bytes, at most %d are expected", d.Digest, d.Size, limit)
	}
	dt, err := os.ReadFile(a.blob(d.Digest))
	if err != nil {
		return err
	}
	return json.Unmarshal(dt, v)
}

// manifest makes an OCI manifest of manifest.json and checks the layers
// against the configuration's own list.
func (a *archive) manifest() (*ocispecs.Manifest, error) {
	list, err := a.find("manifest.json")
	if err != nil {
		return nil, err
	}
	delete(a.kept, list.Digest)
	var images []saved
	if err := a.read(list, &images); err != nil {
		return nil, fmt.Errorf("reading manifest.json of the saved image: %w", err)
	}
	if len(images) != 1 {
		return nil, fmt.Errorf("the saved archive has %d images, one is expected", len(images))
	}
	m := &ocispecs.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispecs.MediaTypeImageManifest,
		Layers:    []ocispecs.Descriptor{},
	}
	if m.Config, err = a.find(images[0].Config); err != nil {
		return nil, err
	}
	m.Config.MediaType = ocispecs.MediaTypeImageConfig
	for _, name := range images[0].Layers {
		layer, err := a.find(name)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, layer)
	}
	return m, a.verify(m)
}

// verify compares the layers with the configuration.
func (a *archive) verify(m *ocispecs.Manifest) error {
	var config ocispecs.Image
	if err := a.read(m.Config, &config); err != nil {
		return fmt.Errorf("reading the configuration of the saved image: %w", err)
	}
	if have, want := len(m.Layers), len(config.RootFS.DiffIDs); have != want {
		return fmt.Errorf("the saved image has %d layers, its configuration names %d", have, want)
	}
	for i, l := range m.Layers {
		if want := config.RootFS.DiffIDs[i]; l.MediaType == ocispecs.MediaTypeImageLayer && l.Digest != want {
			return fmt.Errorf("layer %d of the saved image is %s, its configuration says %s", i, l.Digest, want)
		}
	}
	return nil
}

// finish drops what the image does not need and writes the index, which makes
// the layout complete.
func (a *archive) finish(m *ocispecs.Manifest) error {
	for _, d := range a.blobs {
		if !a.kept[d.Digest] {
			if err := os.Remove(a.blob(d.Digest)); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	dt, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding the manifest: %w", err)
	}
	dgst := digest.FromBytes(dt)
	if err := os.WriteFile(a.blob(dgst), dt, 0o600); err != nil {
		return err
	}
	if err := writeJSON(a.dir, ocispecs.ImageLayoutFile, ocispecs.ImageLayout{Version: ocispecs.ImageLayoutVersion}); err != nil {
		return err
	}
	return writeJSON(a.dir, ocispecs.ImageIndexFile, ocispecs.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispecs.MediaTypeImageIndex,
		Manifests: []ocispecs.Descriptor{{MediaType: m.MediaType, Digest: dgst, Size: int64(len(dt))}},
	})
}
