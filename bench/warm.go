package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/buildcage/buildcage/bench/builder"
	"github.com/buildcage/buildcage/bench/figure"
)

// warm compares a build of one step in a cage that stays, by the program, with
// the same in a running plain builder, by buildx as it comes and with the driver
// that it has for containers.
func warm(ctx context.Context, e *builder.Engine) (rows []figure.Row, err error) {
	buildx := filepath.Join(e.Dir, "buildx")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", buildx, "./bench/buildx")
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building buildx: %w: %s", err, out)
	}
	if _, err := timed(ctx, nil, program, "up", "--name", builder.Stay); err != nil {
		return nil, err
	}
	plain, err := e.Plain(ctx)
	last := context.WithoutCancel(ctx)
	defer func() {
		_, down := timed(last, nil, program, "down", builder.Stay, "--volume")
		err = errors.Join(err, down)
		if plain != nil {
			err = errors.Join(err, plain.Stop(last))
		}
	}()
	if err != nil {
		return nil, err
	}
	dir, err := trivial(e, "base", 1)
	if err != nil {
		return nil, err
	}
	contexts, release, err := e.Local(ctx, dir)
	if err != nil {
		return nil, err
	}
	defer release()
	state := []string{"BUILDX_CONFIG=" + filepath.Join(e.Dir, "buildx.state")}
	if err := os.RemoveAll(filepath.Join(e.Dir, "buildx.state")); err != nil {
		return nil, err
	}
	if _, err := timed(ctx, state, buildx, "create", "--name", builder.Prefix, "--driver", "docker-container"); err != nil {
		return nil, err
	}
	common := []string{"--no-cache", "--output", "type=cacheonly", dir}
	theirs := []string{"build", "--builder", builder.Prefix}
	for _, c := range contexts {
		theirs = append(theirs, "--build-context", c.Name+"="+c.Source)
	}
	row, err := alternating(figure.Row{
		Name: "a build of one step where the builder runs already", Unit: "ms", Other: "buildx, uncaged, driver docker-container",
		Budget: figure.Budget{Kind: figure.Added, Limit: 100, Unit: "ms"},
	}, 1+rounds, [2]side{
		{"cage", func() (float64, error) {
			return timed(ctx, nil, program, append([]string{"build", "--cage", builder.Stay}, common...)...)
		}},
		{"plain", func() (float64, error) { return timed(ctx, state, buildx, append(theirs, common...)...) }},
	})
	if err != nil {
		return nil, err
	}
	row.Ours, row.Theirs = row.Ours[1:], row.Theirs[1:] // the first ones took in the base image
	return []figure.Row{row}, nil
}

// timed runs a program and returns its milliseconds.
func timed(ctx context.Context, env []string, name string, args ...string) (float64, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	begin := time.Now()
	if out, err := cmd.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("%s %s: %w: %s", filepath.Base(name), args[0], err, strings.TrimSpace(string(out)))
	}
	return float64(time.Since(begin)) / float64(time.Millisecond), nil
}
