package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Publish fills the origin's registry, once: frontend (a "# syntax" image),
// frontend-none (the same, asking for no network) and scanner (an SBOM scanner),
// and fresh, which no cache has; see lab/frontend. The images also hold probe.
func (l *Lab) Publish(ctx context.Context) error {
	if l.published {
		return nil
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", filepath.Join(l.dir, "frontend"), "./test/e2e/lab/frontend")
	cmd.Dir = l.repo
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build frontend: %w: %s", err, out)
	}
	data, err := archive(
		entry{name: "bin/", mode: 0o755}, entry{name: "tmp/", mode: 0o1777}, entry{name: "etc/", mode: 0o755},
		entry{name: "etc/ssl/", mode: 0o755}, entry{name: "etc/ssl/certs/", mode: 0o755},
		entry{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, file: l.CAFile},
		entry{name: "bin/frontend", mode: 0o755, file: filepath.Join(l.dir, "frontend")},
		entry{name: "bin/probe", mode: 0o755, file: filepath.Join(l.dir, "probe")})
	if err != nil {
		return err
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil })
	if err != nil {
		return err
	}
	const caps, able = "moby.buildkit.frontend.caps", "moby.buildkit.frontend.inputs,moby.buildkit.frontend.subrequests,moby.buildkit.frontend.contexts"
	for tag, config := range map[string]v1.Config{
		"frontend":      {Entrypoint: []string{"/bin/frontend"}, Labels: map[string]string{caps: able}},
		"frontend-none": {Entrypoint: []string{"/bin/frontend"}, Labels: map[string]string{caps: able, "moby.buildkit.frontend.network.none": "true"}},
		"scanner":       {Entrypoint: []string{"/bin/frontend", "scan"}},
	} {
		config.Env = []string{"PATH=/bin"}
		if err := l.push(ctx, tag, layer, config); err != nil {
			return fmt.Errorf("publishing %s: %w", tag, err)
		}
	}
	random, err := archive(entry{name: "random", mode: 0o644, text: rand.Text()})
	if err != nil {
		return err
	}
	if layer, err = tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(random)), nil }); err != nil {
		return err
	}
	if err := l.push(ctx, "fresh", layer, v1.Config{}); err != nil {
		return fmt.Errorf("publishing fresh: %w", err)
	}
	l.published = true
	return nil
}

// push goes over the origin's control socket, so that nothing of it is counted.
func (l *Lab) push(ctx context.Context, tag string, layer v1.Layer, config v1.Config) error {
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		return err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config = "linux", runtime.GOARCH, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return err
	}
	ref, err := name.NewTag("origin.lab/"+tag+":latest", name.Insecure)
	if err != nil {
		return err
	}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(context.Context, string, string) (net.Conn, error) { return l.Origin.dial() }}
	return remote.Write(ref, img, remote.WithContext(ctx), remote.WithTransport(transport))
}
