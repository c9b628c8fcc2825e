package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/buildcage/buildcage/embed/artifact"
)

// Builder builds the cage image of one architecture.
type Builder struct {
	Root  string // the source tree
	Arch  string // GOARCH
	Out   string // receives the image and its manifest
	Work  string // intermediate files; kept, so that the next build is quick
	Force bool   // build even if Out is current
	Log   io.Writer
}

// Build brings Out up to date. It reports whether it had to build. The
// manifest is written last: a manifest that is there describes a whole image.
func (b *Builder) Build(ctx context.Context) (*artifact.Manifest, bool, error) {
	for _, dir := range []string{b.Work, b.Out} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, false, fmt.Errorf("creating output directory: %w", err)
		}
	}
	unlock, err := lock(filepath.Join(b.Work, "lock"))
	if err != nil {
		return nil, false, err
	}
	defer unlock()

	in, err := b.inputs(ctx)
	if err != nil {
		return nil, false, err
	}
	if m, err := b.current(in.digest); err == nil && !b.Force {
		return m, false, nil
	}
	if err := os.Remove(filepath.Join(b.Out, artifact.ManifestFile)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, false, fmt.Errorf("removing old manifest: %w", err)
	}
	m, err := b.build(ctx, in)
	return m, true, err
}

func (b *Builder) build(ctx context.Context, in inputs) (*artifact.Manifest, error) {
	bin := filepath.Join(b.Work, "bin")
	for _, g := range programs(in.versions) {
		fmt.Fprintf(b.Log, "image: compiling %s\n", g.names())
		if err := b.compile(ctx, g, bin); err != nil {
			return nil, err
		}
	}
	if err := b.compileGit(ctx, bin, in); err != nil {
		return nil, err
	}
	archive := filepath.Join(b.Work, "image.tar")
	m, err := b.assemble(bin, archive, in)
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(b.Log, "image: compressing %s\n", m.Tag)
	m.File, err = writeFile(filepath.Join(b.Out, artifact.ImageFile), func(w io.Writer) error { return compress(w, archive) })
	if err != nil {
		return nil, fmt.Errorf("compressing image: %w", err)
	}
	return m, b.writeManifest(m)
}

// assemble writes the programs in bin as an image archive.
func (b *Builder) assemble(bin, archive string, in inputs) (*artifact.Manifest, error) {
	roots, err := rootCertificates()
	if err != nil {
		return nil, err
	}
	layer := filepath.Join(b.Work, "layer.tar")
	diff, err := writeFile(layer, func(w io.Writer) error { return writeTar(w, rootfs(bin, roots)) })
	if err != nil {
		return nil, fmt.Errorf("writing image layer: %w", err)
	}
	img, err := newImage(b.Arch, in.versions, layer, diff)
	if err != nil {
		return nil, err
	}
	entries, err := img.entries()
	if err != nil {
		return nil, err
	}
	tar, err := writeFile(archive, func(w io.Writer) error { return writeTar(w, entries) })
	if err != nil {
		return nil, fmt.Errorf("writing image archive: %w", err)
	}
	return &artifact.Manifest{
		Schema:   artifact.Schema,
		Tag:      img.tag(),
		ID:       img.config.Digest.String(),
		Digest:   img.manifest.Digest.String(),
		Layers:   []string{img.layer.Digest.String()},
		Arch:     b.Arch,
		Versions: in.versions,
		Tar:      tar,
		Inputs:   in.digest,
	}, nil
}

// current returns the manifest in Out if it describes the image beside it and
// was built from the inputs with this digest.
func (b *Builder) current(digest string) (*artifact.Manifest, error) {
	m, err := artifact.ReadManifest(os.DirFS(b.Out))
	if err != nil {
		return nil, err
	}
	if m.Inputs != digest || m.Arch != b.Arch {
		return nil, errors.New("inputs have changed")
	}
	sum, err := hashFile(filepath.Join(b.Out, artifact.ImageFile))
	if err != nil {
		return nil, err
	}
	if sum != m.File {
		return nil, errors.New("image file is damaged")
	}
	return m, nil
}

func (b *Builder) writeManifest(m *artifact.Manifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding cage manifest: %w", err)
	}
	_, err = writeFile(filepath.Join(b.Out, artifact.ManifestFile), func(w io.Writer) error {
		_, err := w.Write(append(data, '\n'))
		return err
	})
	if err != nil {
		return fmt.Errorf("writing cage manifest: %w", err)
	}
	return nil
}
