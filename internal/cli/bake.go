package cli

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/platforms"
	"github.com/docker/cli/cli/command"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/dockerfile"
	"github.com/buildcage/buildcage/internal/localimage"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/runner"
)

// bake is one use of "bake": several builds under one policy, with one report.
type bake struct {
	*build
	args    []string
	targets []baked
}

// baked is a target whose Dockerfile can be read here.
type baked struct {
	buildx.Target
	input *localimage.Input
	lent  []string
}

func (a *app) bakeCommand() (*cobra.Command, error) {
	cli, err := command.NewDockerCli()
	if err != nil {
		return nil, fmt.Errorf("preparing the Docker client: %w", err)
	}
	b := &bake{build: &build{app: a, mode: policy.Restrict, docker: cli}}
	if b.buildx, err = buildx.NewBake(cli); err != nil {
		return nil, err
	}
	cmd := &cobra.Command{
		Use:   "bake [flags] [TARGET...]",
		Short: "Build the targets of a bake definition; steps reach only what the policy allows",
		Long: `Build the targets of a bake definition as docker buildx bake does, in one cage
and under one policy: buildcage.yaml of the working directory and the --allow
flags. One report tells of all targets.`,
	}
	ours := pflag.NewFlagSet(cmd.Name(), pflag.ContinueOnError)
	b.flags.install(ours, policy.Restrict)
	cmd.Flags().AddFlagSet(ours)
	cmd.Flags().AddFlagSet(b.buildx.Flags())
	cmd.SetHelpFunc(help(ours, b.buildx.Flags(), func() int { return a.streams.width(a.streams.out) }))
	cmd.DisableFlagsInUseLine = true
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		b.args = args
		return b.run(cmd.Context())
	}
	return cmd, nil
}

func (b *bake) run(ctx context.Context) error {
	b.input = &localimage.Input{Stdin: b.streams.in}
	if b.buildx.Prints() {
		if _, err := connect(ctx, b.docker, b.streams.in); err != nil {
			return err
		}
		return b.buildx.Tell(ctx, b.args)
	}
	for _, prepare := range []func() error{b.checkFlags, b.openOutputs, b.loadPolicy, b.checkAsk} {
		if err := prepare(); err != nil {
			return err
		}
	}
	if err := b.readTargets(ctx); err != nil {
		return err
	}
	engine, err := connect(ctx, b.docker, b.streams.in)
	if err != nil {
		return err
	}
	engine.Prefix = b.flags.prefix
	if err := b.chooseCage(ctx, engine); err != nil {
		return err
	}
	run := func(ctx context.Context) *runner.Result {
		return b.inCage(ctx, engine, func(ctx context.Context, at runner.Endpoint) error { return b.bake(ctx, engine, at) })
	}
	result, err := b.again(ctx, run(ctx), run)
	if err != nil {
		return err
	}
	return b.finishAs(result, b.file(), b.lines(result))
}

// readTargets reads the definition, and the Dockerfiles that are here.
func (b *bake) readTargets(ctx context.Context) error {
	targets, err := b.buildx.Targets(ctx, b.args)
	if err != nil {
		return err
	}
	if err := buildx.CheckTargets(targets); err != nil {
		return err
	}
	slices.SortFunc(targets, func(a, b buildx.Target) int { return strings.Compare(a.Name, b.Name) })
	for _, t := range targets {
		file := t.Dockerfile
		if file != "" && !filepath.IsAbs(file) {
			file = filepath.Join(t.Context, file)
		}
		input, err := localimage.Open(t.Context, file, strings.NewReader(""))
		if err != nil || input.Dockerfile == nil {
			continue // bake reports what is missing
		}
		one := baked{Target: t, input: input}
		plan, err := localimage.Read(input.Dockerfile, one.reading(runtime.GOARCH))
		if err == nil && len(plan.Forbidden) > 0 {
			f := plan.Forbidden[0]
			return usagef("remove the option; allow the destinations that the step needs instead",
				"%s:%d: RUN %s is not available in a cage", input.Name, f.Line, f.Option)
		}
		b.targets = append(b.targets, one)
	}
	return nil
}

// reading is what the Dockerfile of a target is read with.
func (t *baked) reading(arch string) dockerfile.Options {
	opt := dockerfile.Options{
		Target: t.Stage, BuildArgs: t.Args, Contexts: slices.Concat(t.Contexts, t.lent),
		Native: platforms.Normalize(ocispecs.Platform{OS: "linux", Architecture: arch}),
	}
	for _, text := range t.Platforms {
		if p, err := platforms.Parse(text); err == nil {
			opt.Platforms = append(opt.Platforms, platforms.Normalize(p))
		}
	}
	return opt
}

// bake runs buildx once the images that only the engine has are at hand.
func (b *bake) bake(ctx context.Context, engine *docker.Engine, at runner.Endpoint) error {
	store := b.imageStore(engine)
	for i := range b.targets {
		t := &b.targets[i]
		plan, err := localimage.Read(t.input.Dockerfile, t.reading(at.Engine.Arch))
		if err != nil {
			continue // BuildKit reports a broken Dockerfile, with an excerpt
		}
		lease, err := store.Provide(ctx, plan.Refs)
		if err != nil {
			return err
		}
		defer lease.Release() //nolint:revive // all targets are built at once, below
		for _, c := range lease.Contexts {
			if err := b.buildx.Lend(t.Name, c.Name, c.Source, store.Dir); err != nil {
				return err
			}
			t.lent = append(t.lent, c.Name)
		}
	}
	return b.buildx.Run(ctx, buildx.Endpoint{Addr: at.Addr, Dir: at.Dir}, b.args...)
}

// file is the Dockerfile of all targets, empty when they have several.
func (b *bake) file() string {
	name := ""
	for _, t := range b.targets {
		if name != "" && t.input.Name != name {
			return ""
		}
		name = t.input.Name
	}
	return name
}

// lines are the Dockerfile lines of the steps, where all targets have one file.
func (b *bake) lines(result *runner.Result) map[string]int {
	if b.file() == "" {
		return nil
	}
	lines := make(map[string]int)
	for i := range b.targets {
		t := &b.targets[i]
		places, err := dockerfile.NewLines(t.input.Dockerfile, t.reading(cmp.Or(result.Engine.Arch, runtime.GOARCH)))
		if err != nil {
			continue
		}
		ids, names := namesOf(result.Records)
		for i, line := range places.Of(names) {
			if line > 0 {
				lines[ids[i]] = line
			}
		}
	}
	return lines
}
