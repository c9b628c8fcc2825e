// Package artifact describes the cage image as it lies on disk: which files
// the image builder writes and what their manifest says. The builder and the
// package that embeds its result meet here, so that neither imports the other.
package artifact

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
)

// Names inside the directory of one architecture.
const (
	ImageFile    = "image.tar.zst"
	ManifestFile = "manifest.json"
)

// Repository is the image name that every tag starts with.
const Repository = "buildcage-cage"

// Schema is the value of Manifest.Schema that this program reads and writes.
const Schema = "buildcage.cage/v1"

// Manifest says what the image file holds.
type Manifest struct {
	Schema string `json:"schema"`
	// Tag is Repository, a colon and the first 16 hex digits of ID.
	Tag string `json:"tag"`
	// ID is the digest of the image configuration. Engines with the classic
	// image store use it as the image ID.
	ID string `json:"id"`
	// Digest is the digest of the OCI manifest. Engines with the containerd
	// image store use it as the image ID.
	Digest string `json:"digest"`
	// Layers are the digests of the uncompressed layers, in order. Every
	// engine reports them, whatever its store.
	Layers []string `json:"layers"`
	// Arch is the GOARCH of every program in the image.
	Arch string `json:"arch"`
	// Versions maps a program in the image to its version.
	Versions map[string]string `json:"versions"`
	// Tar is the archive that the engine loads; File is its compressed form.
	Tar  Blob `json:"tar"`
	File Blob `json:"file"`
	// Inputs is the digest of everything that the image is built from.
	Inputs string `json:"inputs"`
}

// Blob is a sequence of bytes.
type Blob struct {
	SHA256 string `json:"sha256"` // hex
	Size   int64  `json:"size"`
}

// ReadManifest reads the manifest at the root of fsys. The error
// matches fs.ErrNotExist when no image has been built.
func ReadManifest(fsys fs.FS) (*Manifest, error) {
	data, err := fs.ReadFile(fsys, ManifestFile)
	if err != nil {
		return nil, fmt.Errorf("reading cage manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("parsing cage manifest: %w", err)
	}
	if m.Schema != Schema {
		return nil, fmt.Errorf("reading cage manifest: schema is %q, want %q", m.Schema, Schema)
	}
	if m.Tag == "" || m.ID == "" || m.Arch == "" || len(m.Layers) == 0 {
		return nil, errors.New("reading cage manifest: incomplete")
	}
	return &m, nil
}
