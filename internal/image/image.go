// Package image brings the embedded cage image into the engine and keeps old
// ones from piling up. The image that runs is the one the program carries: it
// is found by content, loaded when it is missing, and checked after loading.
package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/jsonstream"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/embed"
	"github.com/buildcage/buildcage/internal/docker"
)

// Image is a loadable image and what identifies it in an engine.
type Image struct {
	Tag  string
	Arch string // GOARCH
	// IDs are the ids that it may have: the digest of its configuration in
	// the classic store, the digest of its manifest in the containerd store.
	IDs []string
	// Open returns the archive that "docker load" takes.
	Open func() (io.ReadCloser, error)
}

// Embedded is the image that this program carries. The error says how to get
// a program that carries one.
func Embedded() (Image, error) {
	cage, err := embed.Cage()
	if err != nil {
		return Image{}, err
	}
	img := Image{Tag: cage.Tag, Arch: cage.Arch, IDs: []string{cage.ID}, Open: cage.Open}
	if cage.Digest != "" {
		img.IDs = append(img.IDs, cage.Digest)
	}
	return img, nil
}

// Ensure makes sure that the engine has img and returns the id it has there.
// loaded is false when it was there already. Several processes may ensure the
// same image at once: the engine stores content once, whoever brings it.
func Ensure(ctx context.Context, api client.ImageAPIClient, img Image) (id string, loaded bool, err error) {
	if id, err = find(ctx, api, img); err != nil || id != "" {
		return id, false, err
	}
	if err = load(ctx, api, img); err != nil {
		return "", false, docker.Classify("loading the cage image", err)
	}
	if id, err = find(ctx, api, img); err != nil {
		return "", false, err
	}
	if id == "" {
		return "", false, fmt.Errorf("loading the cage image: the engine has something else as %s than this program carries", img.Tag)
	}
	return id, true, nil
}

// find returns the id under which the engine has img with its tag, or "". An
// image that lost its tag counts as missing: the next "docker image prune"
// would take it away under a running build.
func find(ctx context.Context, api client.ImageAPIClient, img Image) (string, error) {
	got, err := api.ImageInspect(ctx, img.Tag)
	switch {
	case errdefs.IsNotFound(err):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("looking for the cage image: %w", err)
	case slices.Contains(img.IDs, got.ID):
		return got.ID, nil
	}
	return "", nil
}

func load(ctx context.Context, api client.ImageAPIClient, img Image) error {
	archive, err := img.Open()
	if err != nil {
		return err
	}
	defer archive.Close()
	answer, err := api.ImageLoad(ctx, archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		return err
	}
	defer answer.Close()
	return follow(answer)
}

// follow reads the engine's messages: the status of the request was sent before
// the work began, so a failure is in the last of them.
func follow(answer io.Reader) error {
	messages := json.NewDecoder(answer)
	for {
		var m jsonstream.Message
		err := messages.Decode(&m)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("reading the engine's answer: %w", err)
		case m.Error != nil:
			return m.Error
		}
	}
}
