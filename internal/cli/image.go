package cli

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/command"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/dockerfile"
	"github.com/buildcage/buildcage/internal/localimage"
	"github.com/buildcage/buildcage/internal/runner"
)

// checkDockerfile refuses options of RUN that BuildKit would refuse much later
// and in words that do not say why.
func (b *build) checkDockerfile() error {
	plan, err := b.plan(runtime.GOARCH)
	if err != nil || plan == nil || len(plan.Forbidden) == 0 {
		return nil // BuildKit reports a broken Dockerfile, with an excerpt
	}
	f := plan.Forbidden[0]
	return usagef("remove the option; allow the destinations that the step needs instead",
		"%s:%d: RUN %s is not available in a cage", b.input.Name, f.Line, f.Option)
}

// plan reads the Dockerfile; nil when only BuildKit can.
func (b *build) plan(arch string) (*localimage.Plan, error) {
	if b.input.Dockerfile == nil || b.buildx.Calls() {
		return nil, nil
	}
	opt, err := b.reading(arch)
	if err != nil {
		return nil, err
	}
	return localimage.Read(b.input.Dockerfile, opt)
}

// reading is what the Dockerfile is read with.
func (b *build) reading(arch string) (dockerfile.Options, error) {
	opt := dockerfile.Options{
		Target:    b.buildx.Value("target"),
		BuildArgs: b.buildx.BuildArgs(),
		Native:    platforms.Normalize(ocispecs.Platform{OS: "linux", Architecture: arch}),
	}
	for _, c := range b.buildx.List("build-context") {
		name, _, _ := strings.Cut(c, "=")
		opt.Contexts = append(opt.Contexts, name)
	}
	for _, text := range b.buildx.Platforms() {
		p, err := platforms.Parse(text)
		if err != nil {
			return opt, err
		}
		opt.Platforms = append(opt.Platforms, platforms.Normalize(p))
	}
	return opt, nil
}

// sourcePolicy says that a policy of buildx judges the sources of the build. It
// fails on those that are no registry's, so the engine's images stay out.
func (b *build) sourcePolicy() bool {
	if len(b.buildx.List("policy")) > 0 {
		return true
	}
	_, err := os.Stat(b.input.Name + ".rego")
	return err == nil
}

// localImages exports the base images that the engine has. Trouble with the
// Dockerfile is BuildKit's to tell.
func (b *build) localImages(ctx context.Context, engine *docker.Engine, at runner.Endpoint) (*localimage.Lease, error) {
	plan, err := b.plan(at.Engine.Arch)
	if err != nil || plan == nil || b.sourcePolicy() {
		return &localimage.Lease{}, nil
	}
	store := b.imageStore(engine)
	for _, c := range plan.Clashes {
		if !b.buildx.Silent() && store.Has(ctx, c) {
			b.note(fmt.Sprintf("%s:%d: image %s has the name of a stage, so the registry's is used and not the engine's", b.input.Name, c.Line, c.Key))
		}
	}
	return store.Provide(ctx, plan.Refs)
}

// imageStore keeps what is exported of the engine's images.
func (b *build) imageStore(engine *docker.Engine) *localimage.Store {
	dir, err := os.UserCacheDir()
	if err != nil {
		dir = os.TempDir()
	}
	tell := b.note
	if b.buildx.Silent() {
		tell = nil
	}
	return &localimage.Store{
		Engine: engine.Client,
		Dir:    filepath.Join(dir, "buildcage", "images"),
		Pull:   b.buildx.On("pull"),
		Tell:   tell,
		Auth: func(image string) string {
			auth, err := command.RetrieveAuthTokenFromImage(b.docker.ConfigFile(), image)
			if err != nil {
				return ""
			}
			return auth
		},
	}
}
