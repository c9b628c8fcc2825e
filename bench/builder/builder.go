// Package builder starts the same BuildKit twice, in a cage and in a plain
// container of the same image on the same engine, and builds with either
// through the same client.
package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	dockerclient "github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/image"
	"github.com/buildcage/buildcage/internal/policy"
)

// Prefix is on the names of everything that the benchmark makes in the engine.
const Prefix = "buildcage-bench"

// Stay is the name of the cage that stays for it.
const Stay = "benchwarm"

const plainSocket = "/run/buildkit/buildkitd.sock"

// Engine is where the builders run.
type Engine struct {
	docker.Engine
	Dir string // for programs and exported images

	facts docker.Facts
	cage  image.Image
	id    string // of the cage image

	// Names is where builders look names up; the zero value: where the engine says.
	Names netip.Addr
	plain string // of the image with plain in it
}

// Open finds the engine, loads the cage image and makes the plain one.
func Open(ctx context.Context, dir string) (_ *Engine, err error) {
	api, err := dockerclient.New(dockerclient.FromEnv)
	if err != nil {
		return nil, fmt.Errorf("choosing an engine: %w", err)
	}
	e := &Engine{Engine: docker.Engine{Client: api, Prefix: Prefix}, Dir: dir}
	if e.facts, err = e.Check(ctx, ""); err != nil {
		return nil, err
	}
	if e.cage, err = image.Embedded(); err != nil {
		return nil, err
	}
	if e.id, _, err = image.Ensure(ctx, api, e.cage); err != nil {
		return nil, err
	}
	if err := e.sweep(ctx); err != nil {
		return nil, err
	}
	return e, e.makePlain(ctx)
}

// Close removes all that was made. That something is left is an error.
func (e *Engine) Close(ctx context.Context) error {
	if err := e.sweep(ctx); err != nil {
		return err
	}
	for _, kind := range traces() {
		out, err := run(ctx, kind.list...)
		if err != nil {
			return err
		}
		if out != "" {
			return fmt.Errorf("left in the engine: %s: %s", kind.list[0], strings.Join(strings.Fields(out), " "))
		}
	}
	return nil
}

// trace is a kind of things that a run makes in the engine.
type trace struct{ list, remove []string }

// traces are what the names tell: those of the benchmark's own builders, and of
// the cages that the program makes for it.
func traces() []trace {
	return []trace{
		{[]string{"ps", "-aq", "--filter", "name=" + Prefix}, []string{"rm", "-fv"}},
		{[]string{"volume", "ls", "-q", "--filter", "name=^" + Prefix}, []string{"volume", "rm"}},
		{[]string{"volume", "ls", "-q", "--filter", "name=^" + docker.DefaultPrefix + "-state-" + Stay + "$"}, []string{"volume", "rm"}},
		{[]string{"images", "-q", Prefix}, []string{"rmi", "-f"}},
	}
}

// sweep removes what this run, or one that was killed, has left.
func (e *Engine) sweep(ctx context.Context) error {
	var errs []error
	for _, kind := range traces() {
		out, err := run(ctx, kind.list...)
		if ids := strings.Fields(out); err == nil && len(ids) > 0 {
			_, err = run(ctx, append(kind.remove, ids...)...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// makePlain adds one file to the cage image: the same BuildKit without a cage.
func (e *Engine) makePlain(ctx context.Context) error {
	program := filepath.Join(e.Dir, "plain")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "./bench/plain")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building plain: %w: %s", err, out)
	}
	id, err := run(ctx, "create", "--name", Prefix+"-image", "--entrypoint", "/plain", e.id)
	if err != nil {
		return err
	}
	for _, name := range []string{"/plain", "/bin/buildctl"} {
		if _, err := run(ctx, "cp", program, id+":"+name); err != nil {
			return err
		}
	}
	if e.plain, err = run(ctx, "commit", id, Prefix+":plain"); err != nil {
		return err
	}
	_, err = run(ctx, "rm", id)
	return err
}

// Builder is a running BuildKit.
type Builder struct {
	Socket string // as this machine sees it
	Start  time.Duration
	stop   func(context.Context) error
}

// Stop removes the container.
func (b *Builder) Stop(ctx context.Context) error { return b.stop(ctx) }

// Caged starts a cage that lets everything through and records it.
func (e *Engine) Caged(ctx context.Context) (*Builder, error) {
	begin := time.Now()
	cage, err := e.Engine.Start(ctx, e.facts, docker.Config{Image: e.id, Boot: contract.Boot{
		Version: contract.BootVersion, RunID: Prefix, CLI: "bench", Policy: policy.Spec{Mode: policy.Audit}, Resolvers: e.resolvers(),
	}})
	if err != nil {
		return nil, err
	}
	b := &Builder{Start: time.Since(begin), stop: cage.Remove}
	if b.Socket, err = e.socketOf(ctx, cage.ID, contract.APISocket); err != nil {
		return nil, errors.Join(err, b.Stop(ctx))
	}
	return b, nil
}

func (e *Engine) resolvers() []netip.AddrPort {
	if !e.Names.IsValid() {
		return nil
	}
	return []netip.AddrPort{netip.AddrPortFrom(e.Names, 53)}
}

func (e *Engine) servers() (list []netip.Addr) {
	if e.Names.IsValid() {
		list = append(list, e.Names)
	}
	return list
}

// Plain starts the same without a cage. Its name makes it one of buildx's own,
// of a builder that is called Prefix.
func (e *Engine) Plain(ctx context.Context) (*Builder, error) {
	begin := time.Now()
	created, err := e.Client.ContainerCreate(ctx, dockerclient.ContainerCreateOptions{
		Name: "buildx_buildkit_" + Prefix + "0", Config: &container.Config{Image: e.plain},
		HostConfig: &container.HostConfig{
			DNS:    e.servers(),
			CapAdd: []string{"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"}, CgroupnsMode: container.CgroupnsModePrivate,
			SecurityOpt: []string{"seccomp=unconfined", "apparmor=unconfined"},
			Tmpfs:       map[string]string{"/run": "", "/tmp": "exec"},
			Mounts:      []mount.Mount{{Type: mount.TypeVolume, Source: Prefix + "-plain", Target: "/var/lib/buildkit"}},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("creating the plain builder: %w", err)
	}
	id := created.ID
	b := &Builder{stop: func(ctx context.Context) error { _, err := run(ctx, "rm", "-fv", id); return err }}
	if _, err := e.Client.ContainerStart(ctx, id, dockerclient.ContainerStartOptions{}); err != nil {
		return nil, errors.Join(fmt.Errorf("starting the plain builder: %w", err), b.Stop(ctx))
	}
	if b.Socket, err = e.socketOf(ctx, id, plainSocket); err == nil {
		err = b.answers(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, b.Stop(ctx))
	}
	b.Start = time.Since(begin)
	return b, nil
}

func (e *Engine) socketOf(ctx context.Context, id, path string) (string, error) {
	found, err := e.Client.ContainerInspect(ctx, id, dockerclient.ContainerInspectOptions{})
	if err != nil {
		return "", fmt.Errorf("finding a builder's process: %w", err)
	}
	return fmt.Sprintf("unix:///proc/%d/root%s", found.Container.State.Pid, path), nil
}

// Size is what the cage image takes when it is unpacked.
func (e *Engine) Size(ctx context.Context) (int64, error) {
	found, err := e.Client.ImageInspect(ctx, e.id)
	return found.Size, err
}

// run runs the engine's own command.
func run(ctx context.Context, args ...string) (string, error) { return runWith(ctx, nil, args...) }

func runWith(ctx context.Context, in io.Reader, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Stdin = in
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(out.String()), nil
}
