package builder

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/klauspost/compress/zstd"

	"github.com/buildcage/buildcage/internal/image"
)

// Archive is an image that no engine has: the cage image with one more byte.
type Archive struct {
	image.Image
	tar string // what "docker load" would take
}

// Fresh makes an archive, as the program would carry it and as a plain one.
func (e *Engine) Fresh(ctx context.Context) (*Archive, error) {
	source, err := e.unpacked()
	if err != nil {
		return nil, err
	}
	tag, err := name.NewTag(Prefix + ":" + rand.Text()[:12])
	if err != nil {
		return nil, err
	}
	fresh, err := e.altered(source)
	if err != nil {
		return nil, fmt.Errorf("altering the cage image: %w", err)
	}
	a := &Archive{tar: filepath.Join(e.Dir, "fresh.tar")}
	if err := tarball.WriteToFile(a.tar, tag, fresh); err != nil {
		return nil, err
	}
	id, err := fresh.ConfigName()
	if err != nil {
		return nil, err
	}
	packed := a.tar + ".zst"
	a.Image = image.Image{Tag: tag.String(), Arch: e.cage.Arch, IDs: []string{id.String()}, Open: func() (io.ReadCloser, error) {
		f, err := os.Open(packed)
		if err != nil {
			return nil, err
		}
		z, err := zstd.NewReader(f)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return unpacking{z.IOReadCloser(), f}, nil
	}}
	return a, compress(a.tar, packed)
}

type unpacking struct {
	io.ReadCloser
	file *os.File
}

func (u unpacking) Close() error { return errors.Join(u.ReadCloser.Close(), u.file.Close()) }

// unpacked is the archive in the program as a file.
func (e *Engine) unpacked() (string, error) {
	path := filepath.Join(e.Dir, "cage.tar")
	in, err := e.cage.Open()
	if err != nil {
		return "", err
	}
	defer in.Close()
	out, err := os.Create(path)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, in)
	return path, errors.Join(err, out.Close())
}

// altered puts something random into every layer, so that an engine that has
// the others can't reuse one.
func (e *Engine) altered(path string) (v1.Image, error) {
	old, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		return nil, err
	}
	layers, err := old.Layers()
	if err != nil {
		return nil, err
	}
	fresh := empty.Image
	for i, l := range layers {
		file := filepath.Join(e.Dir, fmt.Sprintf("layer%d.tar", i))
		if err := alter(l, file); err != nil {
			return nil, err
		}
		layer, err := tarball.LayerFromFile(file)
		if err != nil {
			return nil, err
		}
		if fresh, err = mutate.AppendLayers(fresh, layer); err != nil {
			return nil, err
		}
	}
	config, err := old.ConfigFile()
	if err != nil {
		return nil, err
	}
	now, err := fresh.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.RootFS, config.History = now.RootFS, now.History
	return mutate.ConfigFile(fresh, config)
}

func alter(l v1.Layer, path string) (err error) {
	in, err := l.Uncompressed()
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := tar.NewWriter(f)
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := io.Copy(out, r); err != nil {
			return err
		}
	}
	text := rand.Text()
	if err := out.WriteHeader(&tar.Header{Name: "fresh", Mode: 0o444, Size: int64(len(text))}); err != nil {
		return err
	}
	if _, err := io.WriteString(out, text); err != nil {
		return err
	}
	return out.Close()
}

func compress(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	z, err := zstd.NewWriter(f)
	if err != nil {
		return err
	}
	_, err = io.Copy(z, in)
	return errors.Join(err, z.Close())
}

// Load loads a the way the program does, and LoadTar the way a person would.
// Both remove it again, which is not counted.
func (e *Engine) Load(ctx context.Context, a *Archive) (time.Duration, error) {
	begin := time.Now()
	_, _, err := image.Ensure(ctx, e.Client, a.Image)
	return e.loaded(ctx, a, begin, err)
}

// LoadTar loads the uncompressed archive with the engine's own command.
func (e *Engine) LoadTar(ctx context.Context, a *Archive) (time.Duration, error) {
	begin := time.Now()
	_, err := run(ctx, "load", "-q", "-i", a.tar)
	return e.loaded(ctx, a, begin, err)
}

func (e *Engine) loaded(ctx context.Context, a *Archive, begin time.Time, err error) (time.Duration, error) {
	took := time.Since(begin)
	if err != nil {
		return 0, err
	}
	_, err = run(ctx, "rmi", "-f", a.Tag)
	return took, err
}
