package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	cagedPackage   = "github.com/buildcage/buildcage/cmd/caged"
	builderPackage = "github.com/buildcage/buildcage/embed/image"
	// stockModule pins the stock programs.
	stockModule = "embed/image/thirdparty"
)

// inputs is what the image is built from.
type inputs struct {
	digest   string            // of everything
	versions map[string]string // by program
	cc       string            // the C compiler
	// toolchain says which versions C programs are compiled and linked with.
	toolchain string
}

// inputs finds everything that the content of the image depends on: the
// sources of caged and of this builder, the modules they and the stock
// programs are pinned to, and the toolchains.
func (b *Builder) inputs(ctx context.Context) (inputs, error) {
	tools, err := b.tools(ctx)
	if err != nil {
		return inputs{}, err
	}
	caged, err := b.sources(ctx, cagedPackage)
	if err != nil {
		return inputs{}, err
	}
	builder, err := b.sources(ctx, builderPackage)
	if err != nil {
		return inputs{}, err
	}
	stock, err := b.digest([]string{filepath.Join(b.Root, stockModule, "go.mod"), filepath.Join(b.Root, stockModule, "go.sum")})
	if err != nil {
		return inputs{}, err
	}
	versions, err := b.versions(ctx)
	if err != nil {
		return inputs{}, err
	}
	versions["caged"] = "src-" + caged[:12]
	versions["go"] = tools["GOVERSION"]
	versions["libseccomp"] = tools["libseccomp"]
	versions["git"], versions["zlib"] = gitRevision, tools["zlib"]
	all := strings.Join([]string{b.Arch, caged, builder, stock, fmt.Sprint(tools)}, "\n")
	return inputs{
		digest: hashBytes([]byte(all)).SHA256, versions: versions,
		cc: tools["CC"], toolchain: tools["cc"] + " zlib " + tools["zlib"],
	}, nil
}

// tools returns the compilers' versions and those of the C libraries that
// programs are linked with.
func (b *Builder) tools(ctx context.Context) (map[string]string, error) {
	env, err := b.output(ctx, ".", "go", "env", "GOVERSION", "CC")
	if err != nil {
		return nil, err
	}
	goversion, cc, _ := strings.Cut(env, "\n")
	tools := map[string]string{"GOVERSION": goversion, "CC": strings.Fields(cc + " cc")[0]}
	if tools["cc"], err = b.output(ctx, ".", tools["CC"], "--version"); err != nil {
		return nil, err
	}
	for _, library := range []string{"libseccomp", "zlib"} {
		if tools[library], err = b.output(ctx, ".", "pkg-config", "--modversion", library); err != nil {
			return nil, fmt.Errorf("finding %s (make setup installs it): %w", library, err)
		}
	}
	return tools, nil
}

// versions returns the pinned versions of the stock programs.
func (b *Builder) versions(ctx context.Context) (map[string]string, error) {
	out, err := b.output(ctx, stockModule, "go", "list", "-m", "-f", "{{.Version}}",
		buildkitModule, runcModule, cniModule)
	if err != nil {
		return nil, err
	}
	v := strings.Fields(out)
	if len(v) != 3 {
		return nil, fmt.Errorf("reading pinned versions: got %q", out)
	}
	return map[string]string{"buildkit": v[0], "runc": v[1], "cni": v[2]}, nil
}

// sources returns the digest of all that the package is compiled from: the
// files of this module and the versions of the others.
func (b *Builder) sources(ctx context.Context, pkg string) (string, error) {
	const format = `{{with .Module}}{{if .Main}}` +
		`{{range $.GoFiles}}file {{$.Dir}}/{{.}}{{"\n"}}{{end}}{{range $.SFiles}}file {{$.Dir}}/{{.}}{{"\n"}}{{end}}` +
		`{{range $.HFiles}}file {{$.Dir}}/{{.}}{{"\n"}}{{end}}{{range $.EmbedFiles}}file {{$.Dir}}/{{.}}{{"\n"}}{{end}}` +
		`{{else}}module {{.Path}}@{{.Version}}{{end}}{{end}}`
	out, err := b.output(ctx, ".", "go", "list", "-deps", "-f", format, pkg)
	if err != nil {
		return "", err
	}
	var files, modules []string
	for line := range strings.Lines(out) {
		line = strings.TrimSpace(line)
		if name, ok := strings.CutPrefix(line, "file "); ok {
			files = append(files, name)
		} else if line != "" {
			modules = append(modules, line)
		}
	}
	slices.Sort(modules)
	sum, err := b.digest(files)
	if err != nil {
		return "", err
	}
	return hashBytes([]byte(sum + strings.Join(slices.Compact(modules), "\n"))).SHA256, nil
}

// digest returns the digest of the files' names and contents. Names count
// relative to the source tree, so that a copy of the tree has the same digest.
func (b *Builder) digest(files []string) (string, error) {
	slices.Sort(files)
	all := sha256.New()
	for _, name := range files {
		sum, err := hashFile(name)
		if err != nil {
			return "", fmt.Errorf("reading source: %w", err)
		}
		rel, err := filepath.Rel(b.Root, name)
		if err != nil {
			return "", fmt.Errorf("reading source: %w", err)
		}
		fmt.Fprintf(all, "%s %s\n", sum.SHA256, filepath.ToSlash(rel))
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}

func (b *Builder) output(ctx context.Context, dir, name string, args ...string) (string, error) {
	out, err := b.command(ctx, dir, name, args...).Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) && len(exit.Stderr) > 0 {
			err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(exit.Stderr)))
		}
		return "", fmt.Errorf("running %s %s: %w", name, args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
