package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// Module and package paths of the stock programs.
const (
	buildkitModule = "github.com/moby/buildkit"
	runcModule     = "github.com/opencontainers/runc"
	cniModule      = "github.com/containernetworking/plugins"
)

// group is a set of programs that one "go build" makes.
type group struct {
	dir      string // module, relative to the source tree
	packages []string
	cgo      bool
	tags     string
	ldflags  string
}

// programs lists what is compiled into the image.
func programs(versions map[string]string) []group {
	const strip = "-s -w"
	return []group{
		{
			dir: stockModule,
			packages: []string{
				buildkitModule + "/cmd/buildkitd",
				cniModule + "/plugins/main/ptp",
				cniModule + "/plugins/main/loopback",
				cniModule + "/plugins/ipam/host-local",
			},
			ldflags: strip +
				" -X " + buildkitModule + "/version.Version=" + versions["buildkit"] +
				" -X " + cniModule + "/pkg/utils/buildversion.BuildVersion=" + versions["cni"],
		},
		{
			// runc enters namespaces in C before the Go runtime starts, and
			// loads seccomp filters with libseccomp.
			dir:      stockModule,
			packages: []string{runcModule},
			cgo:      true,
			tags:     "seccomp,netgo,osusergo",
			ldflags:  strip + " -linkmode external -extldflags -static",
		},
		{dir: ".", packages: []string{cagedPackage}, ldflags: strip},
	}
}

func (g group) names() string {
	names := make([]string, len(g.packages))
	for i, p := range g.packages {
		names[i] = path.Base(p)
	}
	return strings.Join(names, ", ")
}

// compile builds the programs of g into the directory bin.
func (b *Builder) compile(ctx context.Context, g group, bin string) error {
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return fmt.Errorf("creating program directory: %w", err)
	}
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-tags", g.tags, "-ldflags", g.ldflags,
		"-o", bin + string(filepath.Separator)}, g.packages...)
	cmd := b.command(ctx, g.dir, "go", args...)
	if g.cgo {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1")
	}
	cmd.Stdout, cmd.Stderr = b.Log, b.Log
	if err := cmd.Run(); err != nil {
		if g.cgo {
			return fmt.Errorf("compiling %s (needs gcc, pkg-config and libseccomp-dev): %w", g.names(), err)
		}
		return fmt.Errorf("compiling %s: %w", g.names(), err)
	}
	return nil
}

// command returns a command that runs in dir with every setting pinned that
// would otherwise change what the compiler produces.
func (b *Builder) command(ctx context.Context, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = filepath.Join(b.Root, dir)
	cmd.Env = append(os.Environ(),
		"GOOS=linux", "GOARCH="+b.Arch, "GOAMD64=v1", "GOARM64=v8.0",
		"GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=",
		"CGO_ENABLED=0", "CGO_CFLAGS=-O2 -g", "CGO_CPPFLAGS=", "CGO_LDFLAGS=-O2 -g",
		"LC_ALL=C")
	return cmd
}
