package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	contentlocal "github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/util/entitlements"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/tonistiigi/fsutil"

	"github.com/buildcage/buildcage/embed/artifact"
)

// Uncaged is a stock BuildKit on the lab's network with nothing of the cage
// around it. What it runs leaks; that the lab sees the leak is what makes an
// empty sink worth something.
type Uncaged struct {
	lab    *Lab
	client *client.Client
	*Capture
}

// Uncaged starts the builder, once.
func (l *Lab) Uncaged(ctx context.Context) (*Uncaged, error) {
	if l.plain != nil {
		return l.plain, nil
	}
	image, err := l.cageImage(ctx)
	if err != nil {
		return nil, err
	}
	id, err := docker(ctx, "create", "--rm", "--name", "buildcage-lab-uncaged", "--label", label+"=1", "--log-driver", "none",
		"--network", Network, "--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--cgroupns", "private",
		"--tmpfs", "/run", "--tmpfs", "/tmp:exec", "-v", "/var/lib/buildkit", "--entrypoint", "/node", image, "uncaged")
	if err != nil {
		return nil, err
	}
	l.later(func(ctx context.Context) error { _, err := docker(ctx, "rm", "-fv", id); return err })
	if _, err := docker(ctx, "cp", filepath.Join(l.dir, "node"), id+":/node"); err != nil {
		return nil, err
	}
	if _, err := docker(ctx, "cp", l.CAFile, id+":/ca.pem"); err != nil {
		return nil, err
	}
	if _, err := docker(ctx, "start", id); err != nil {
		return nil, err
	}
	pid, err := pidOf(ctx, id)
	if err != nil {
		return nil, err
	}
	u := &Uncaged{lab: l}
	if u.Capture, err = attach(pid); err != nil {
		return nil, err
	}
	l.later(func(context.Context) error { u.Close(); return nil })
	if err := u.connect(ctx, pid); err != nil {
		return nil, err
	}
	l.plain = u
	return u, nil
}

// cageImage is the image that the program under test embeds: it has the same
// BuildKit and the same runc.
func (l *Lab) cageImage(ctx context.Context) (string, error) {
	dir := filepath.Join(l.repo, "embed", "cage", runtime.GOARCH)
	m, err := artifact.ReadManifest(os.DirFS(dir))
	if err != nil {
		return "", err
	}
	if _, err := docker(ctx, "image", "inspect", m.Tag); err == nil {
		return m.Tag, nil
	}
	f, err := os.Open(filepath.Join(dir, artifact.ImageFile))
	if err != nil {
		return "", err
	}
	defer f.Close()
	z, err := zstd.NewReader(f)
	if err != nil {
		return "", err
	}
	defer z.Close()
	_, err = dockerIn(ctx, z, "load")
	return m.Tag, err
}

// connect waits for buildkitd on its socket, as this machine sees it.
func (u *Uncaged) connect(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	socket := fmt.Sprintf("unix:///proc/%d/root/run/buildkit/buildkitd.sock", pid)
	for {
		c, err := client.New(ctx, socket)
		if err == nil {
			if _, err = c.Info(ctx); err == nil {
				u.client = c
				u.lab.later(func(context.Context) error { return c.Close() })
				return nil
			}
			err = errors.Join(err, c.Close())
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the uncaged builder: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Build runs dir/Dockerfile without a cage, with further options of the
// Dockerfile frontend. The error is the build's.
func (u *Uncaged) Build(ctx context.Context, dir string, attrs map[string]string, log io.Writer) error {
	files, err := fsutil.NewFS(dir)
	if err != nil {
		return err
	}
	opt := client.SolveOpt{
		Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"filename": "Dockerfile", "no-cache": ""},
		LocalMounts: map[string]fsutil.FS{"context": files, "dockerfile": files},
		AllowedEntitlements: []string{
			entitlements.EntitlementNetworkHost.String(), entitlements.EntitlementSecurityInsecure.String(),
		},
	}
	if err := u.lab.StepContext(&opt); err != nil {
		return err
	}
	for name, value := range attrs {
		opt.FrontendAttrs[name] = value
	}
	display, err := progressui.NewDisplay(log, progressui.PlainMode)
	if err != nil {
		return err
	}
	status := make(chan *client.SolveStatus)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		_, _ = display.UpdateFrom(context.WithoutCancel(ctx), status)
	}()
	_, err = u.client.Solve(ctx, nil, opt, status)
	<-shown
	return err
}

// StepContext lets a build take the step image from this machine.
func (l *Lab) StepContext(opt *client.SolveOpt) error {
	store, err := contentlocal.NewStore(l.step.layout)
	if err != nil {
		return err
	}
	opt.FrontendAttrs["context:"+StepImage] = "oci-layout://lab@" + l.step.digest
	opt.OCIStores = map[string]content.Store{"lab": store}
	return nil
}

// StepState is the step image in the build graph of a client with that session,
// which has taken StepContext.
func (l *Lab) StepState(session string) llb.State {
	return llb.OCILayout("docker.io/library/lab@"+l.step.digest, llb.OCIStore(session, "lab"))
}
