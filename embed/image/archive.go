package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/buildcage/buildcage/embed/artifact"
	"github.com/buildcage/buildcage/internal/contract"
)

// image is a single-layer image about to be archived.
type image struct {
	layerFile    string
	layer        ocispec.Descriptor
	config       ocispec.Descriptor
	manifest     ocispec.Descriptor
	configJSON   []byte
	manifestJSON []byte
}

func newImage(arch string, versions map[string]string, layerFile string, layer artifact.Blob) (*image, error) {
	img := &image{layerFile: layerFile, layer: descriptor(ocispec.MediaTypeImageLayer, layer)}
	var err error
	if img.configJSON, err = json.Marshal(imageConfig(arch, versions, img.layer.Digest)); err != nil {
		return nil, fmt.Errorf("encoding image configuration: %w", err)
	}
	img.config = descriptor(ocispec.MediaTypeImageConfig, hashBytes(img.configJSON))
	img.manifestJSON, err = json.Marshal(ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageManifest,
		Config:    img.config,
		Layers:    []ocispec.Descriptor{img.layer},
	})
	if err != nil {
		return nil, fmt.Errorf("encoding image manifest: %w", err)
	}
	img.manifest = descriptor(ocispec.MediaTypeImageManifest, hashBytes(img.manifestJSON))
	return img, nil
}

func descriptor(mediaType string, b artifact.Blob) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: mediaType,
		Digest:    digest.NewDigestFromEncoded(digest.SHA256, b.SHA256),
		Size:      b.Size,
	}
}

func imageConfig(arch string, versions map[string]string, diffID digest.Digest) ocispec.Image {
	epoch := time.Unix(0, 0).UTC()
	labels := map[string]string{contract.Label: "1"}
	for name, version := range versions {
		labels[contract.Label+".with."+name] = version
	}
	return ocispec.Image{
		Created:  &epoch,
		Platform: ocispec.Platform{OS: "linux", Architecture: arch},
		Config: ocispec.ImageConfig{
			Entrypoint: []string{contract.BinDir + "/caged"},
			Env:        []string{"PATH=" + contract.BinDir},
			WorkingDir: "/",
			StopSignal: "SIGTERM",
			Labels:     labels,
		},
		RootFS:  ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{diffID}},
		History: []ocispec.History{{Created: &epoch, CreatedBy: "buildcage"}},
	}
}

// tag names the image after its content: the configuration holds the digest
// of the layer, and the tag is the start of the digest of the configuration.
func (i *image) tag() string {
	return artifact.Repository + ":" + i.config.Digest.Encoded()[:16]
}

// entries returns the files of an archive that is an OCI layout (read by
// engines with the containerd store) and what "docker save" writes (read by all others).
func (i *image) entries() ([]entry, error) {
	_, version, _ := strings.Cut(i.tag(), ":")
	named := i.manifest
	named.Annotations = map[string]string{
		"io.containerd.image.name": "docker.io/library/" + i.tag(),
		ocispec.AnnotationRefName:  version,
	}
	entries := []entry{
		{path: blobPath(i.layer), mode: 0o644, source: i.layerFile},
		{path: blobPath(i.config), mode: 0o644, data: i.configJSON},
		{path: blobPath(i.manifest), mode: 0o644, data: i.manifestJSON},
	}
	for path, v := range map[string]any{
		ocispec.ImageLayoutFile: ocispec.ImageLayout{Version: ocispec.ImageLayoutVersion},
		ocispec.ImageIndexFile: ocispec.Index{
			Versioned: specs.Versioned{SchemaVersion: 2},
			MediaType: ocispec.MediaTypeImageIndex,
			Manifests: []ocispec.Descriptor{named},
		},
		"manifest.json": []map[string]any{{
			"Config":   blobPath(i.config),
			"RepoTags": []string{i.tag()},
			"Layers":   []string{blobPath(i.layer)},
		}},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", path, err)
		}
		entries = append(entries, entry{path: path, mode: 0o644, data: data})
	}
	return entries, nil
}

func blobPath(d ocispec.Descriptor) string {
	return ocispec.ImageBlobsDir + "/" + d.Digest.Algorithm().String() + "/" + d.Digest.Encoded()
}
