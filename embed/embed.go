// Package embed carries the cage image inside the program. The image that a
// binary embeds is the image that it runs: nothing is pulled, so versions
// cannot skew.
//
// A binary that was compiled before "make cage" carries no image. It compiles
// and runs, and Cage says what is missing.
package embed

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime"

	"github.com/klauspost/compress/zstd"

	"github.com/buildcage/buildcage/embed/artifact"
)

// Image is the embedded cage image.
type Image struct {
	artifact.Manifest
	fsys fs.FS
}

// Cage returns the image that this binary carries. The error is a
// *MissingError when it carries none.
func Cage() (*Image, error) {
	fsys, err := fs.Sub(files, "cage/"+runtime.GOARCH)
	if err != nil {
		return nil, fmt.Errorf("opening embedded files: %w", err)
	}
	return find(fsys, runtime.GOARCH)
}

func find(fsys fs.FS, arch string) (*Image, error) {
	m, err := artifact.ReadManifest(fsys)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &MissingError{Arch: arch}
	}
	if err != nil {
		return nil, err
	}
	if m.Arch != arch {
		return nil, fmt.Errorf("reading cage manifest: image is for %q, program for %q", m.Arch, arch)
	}
	if info, err := fs.Stat(fsys, artifact.ImageFile); err != nil {
		return nil, &MissingError{Arch: arch}
	} else if info.Size() != m.File.Size {
		return nil, fmt.Errorf("reading cage image: %d bytes, manifest says %d", info.Size(), m.File.Size)
	}
	return &Image{Manifest: *m, fsys: fsys}, nil
}

// Open returns the image as an uncompressed archive, which is both what
// "docker load" takes and an OCI layout. Close it before the end to stop early.
func (i *Image) Open() (io.ReadCloser, error) {
	f, err := i.fsys.Open(artifact.ImageFile)
	if err != nil {
		return nil, fmt.Errorf("opening cage image: %w", err)
	}
	z, err := zstd.NewReader(f, zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1)) // the engine is not faster
	if err != nil {
		return nil, errors.Join(fmt.Errorf("decompressing cage image: %w", err), f.Close())
	}
	return &stream{Decoder: z, file: f}, nil
}

type stream struct {
	*zstd.Decoder
	file fs.File
}

func (s *stream) Close() error {
	s.Decoder.Close()
	return s.file.Close()
}

// MissingError reports a binary that was built without the cage image.
type MissingError struct {
	Arch string
}

func (e *MissingError) Error() string {
	return "this buildcage binary carries no cage image for " + e.Arch
}

// Hint says how to get a binary that carries the image.
func (e *MissingError) Hint() string {
	return `run "make build" in the source tree, or install a released binary`
}
