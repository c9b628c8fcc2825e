package builder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/tonistiigi/fsutil"

	"github.com/buildcage/buildcage/internal/dockerfile"
	"github.com/buildcage/buildcage/internal/localimage"

	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// pollEvery is how exact the start of the plain builder is measured.
const pollEvery = 5 * time.Millisecond

// answers waits until BuildKit does.
func (b *Builder) answers(ctx context.Context) error {
	if err := listening(ctx, "unix", strings.TrimPrefix(b.Socket, "unix://")); err != nil {
		return err
	}
	c, err := client.New(ctx, b.Socket)
	if err != nil {
		return err
	}
	_, err = c.Info(ctx)
	return errors.Join(err, c.Close())
}

// listening waits until somebody does there.
func listening(ctx context.Context, network, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if conn, err := net.Dial(network, address); err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", address, ctx.Err())
		}
	}
}

// Build builds dir/Dockerfile from nothing and keeps no result. It returns how
// long BuildKit took, without connecting.
func (e *Engine) Build(ctx context.Context, b *Builder, dir string) (took time.Duration, err error) {
	files, err := fsutil.NewFS(dir)
	if err != nil {
		return 0, err
	}
	opt := client.SolveOpt{
		Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"filename": "Dockerfile", "no-cache": ""},
		LocalMounts: map[string]fsutil.FS{"context": files, "dockerfile": files},
	}
	release, err := e.local(ctx, dir, &opt)
	if err != nil {
		return 0, err
	}
	defer release()
	c, err := client.New(ctx, b.Socket)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	var log bytes.Buffer
	display, err := progressui.NewDisplay(&log, progressui.PlainMode)
	if err != nil {
		return 0, err
	}
	status, shown := make(chan *client.SolveStatus), make(chan struct{})
	go func() {
		defer close(shown)
		_, _ = display.UpdateFrom(context.WithoutCancel(ctx), status)
	}()
	begin := time.Now()
	_, err = c.Solve(ctx, nil, opt, status)
	took = time.Since(begin)
	<-shown
	if err != nil {
		tail := log.Bytes()[max(0, log.Len()-2000):]
		err = fmt.Errorf("building %s: %w\n%s", filepath.Base(dir), err, tail)
	}
	return took, err
}

// Local exports the engine's own images that dir/Dockerfile begins with, until
// they are released.
func (e *Engine) Local(ctx context.Context, dir string) (contexts []localimage.Context, release func(), err error) {
	text, err := os.ReadFile(filepath.Join(dir, "Dockerfile"))
	if err != nil {
		return nil, nil, err
	}
	plan, err := localimage.Read(text, dockerfile.Options{Platforms: []ocispecs.Platform{platforms.DefaultSpec()}})
	if err != nil {
		return nil, nil, err
	}
	store := &localimage.Store{Engine: e.Client, Dir: filepath.Join(e.Dir, "images")}
	lease, err := store.Provide(ctx, plan.Refs)
	if err != nil {
		return nil, nil, err
	}
	return lease.Contexts, lease.Release, nil
}

// local hands them to BuildKit.
func (e *Engine) local(ctx context.Context, dir string, opt *client.SolveOpt) (release func(), err error) {
	contexts, release, err := e.Local(ctx, dir)
	if err != nil {
		return nil, err
	}
	opt.OCIStores = make(map[string]content.Store)
	for i, c := range contexts {
		u, err := url.Parse(c.Source)
		if err != nil {
			release()
			return nil, err
		}
		layout, digest, _ := strings.Cut(u.Path, "@")
		id := fmt.Sprintf("local%d", i)
		if opt.OCIStores[id], err = contentlocal.NewStore(layout); err != nil {
			release()
			return nil, err
		}
		opt.FrontendAttrs["context:"+c.Name] = "oci-layout://" + id + "@" + digest
	}
	return release, nil
}
