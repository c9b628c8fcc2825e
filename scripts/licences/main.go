// Command licences collects the licence texts of everything that a release of
// buildcage contains: the modules linked into the CLI on every platform, those
// linked into the programs of the cage image, Go itself, git, and the C
// libraries that are linked statically. It prints one text file, sorted, and fails when
// something comes without a licence.
//
//	go run ./scripts/licences >bin/THIRD_PARTY_LICENCES
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
)

const own = "github.com/buildcage/buildcage"

// program is something that is shipped, and the platforms it is shipped for.
type program struct {
	dir      string // of the module
	packages []string
	systems  []string
}

func programs() []program {
	return []program{
		{".", []string{"./cmd/buildcage"}, []string{"linux", "darwin", "windows"}},
		{".", []string{"./cmd/caged"}, []string{"linux"}},
		{"embed/image/thirdparty", []string{
			"github.com/moby/buildkit/cmd/buildkitd",
			"github.com/opencontainers/runc",
			"github.com/containernetworking/plugins/plugins/main/ptp",
			"github.com/containernetworking/plugins/plugins/main/loopback",
			"github.com/containernetworking/plugins/plugins/ipam/host-local",
		}, []string{"linux"}},
	}
}

// libraries are what is compiled from C: git, whose licence stands beside its
// patches, and what is linked statically, whose licences Debian's packages have.
func libraries() map[string]string {
	return map[string]string{
		"git":        "embed/image/git/COPYING",
		"glibc":      "/usr/share/doc/libc6-dev/copyright",
		"libseccomp": "/usr/share/doc/libseccomp-dev/copyright",
		"zlib":       "/usr/share/doc/zlib1g-dev/copyright",
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "licences: error: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer) error {
	texts := make(map[string][]byte) // by "module version"
	for _, p := range programs() {
		for _, system := range p.systems {
			if err := p.collect(ctx, system, texts); err != nil {
				return err
			}
		}
	}
	goroot, err := goOutput(ctx, ".", "linux", "env", "GOROOT")
	if err != nil {
		return err
	}
	files := libraries()
	files["Go"] = filepath.Join(strings.TrimSpace(string(goroot)), "LICENSE")
	for name, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading the licence of %s: %w", name, err)
		}
		texts[name] = text
	}
	return write(out, texts)
}

// collect adds the licences of the modules that p is linked from.
func (p program) collect(ctx context.Context, system string, texts map[string][]byte) error {
	const format = "{{with .Module}}{{if not .Main}}{{with .Replace}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{else}}{{.Path}}\t{{.Version}}\t{{.Dir}}{{end}}{{end}}{{end}}"
	list, err := goOutput(ctx, p.dir, system, append([]string{"list", "-deps", "-f", format}, p.packages...)...)
	if err != nil {
		return err
	}
	lines := bufio.NewScanner(bytes.NewReader(list))
	for lines.Scan() {
		fields := strings.Split(lines.Text(), "\t")
		if len(fields) != 3 || strings.HasPrefix(fields[0], own) {
			continue
		}
		name := fields[0] + " " + fields[1]
		if texts[name] != nil {
			continue
		}
		if texts[name], err = licence(fields[2]); err != nil {
			return fmt.Errorf("reading the licence of %s: %w", name, err)
		}
	}
	return lines.Err()
}

// licence returns the texts at the top of a module, one after the other.
func licence(dir string) ([]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []byte
	for _, e := range entries {
		if e.IsDir() || !isLicence(e.Name()) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		all = append(append(all, bytes.TrimSpace(text)...), "\n\n"...)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no licence file in %s", filepath.Base(dir))
	}
	return all, nil
}

func isLicence(file string) bool {
	name := strings.ToUpper(file)
	if strings.HasSuffix(name, ".GO") {
		return false
	}
	return slices.ContainsFunc([]string{"LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE"}, func(p string) bool { return strings.HasPrefix(name, p) })
}

// write prints equal texts once, under all the names they belong to.
func write(out io.Writer, texts map[string][]byte) error {
	owners := make(map[string][]string)
	for name, text := range texts {
		body := strings.TrimSpace(string(text))
		owners[body] = append(owners[body], name)
	}
	bodies := make([]string, 0, len(owners))
	for body, names := range owners {
		slices.Sort(names)
		bodies = append(bodies, body)
	}
	slices.SortFunc(bodies, func(a, b string) int { return strings.Compare(owners[a][0], owners[b][0]) })
	w := bufio.NewWriter(out)
	fmt.Fprintf(w, "buildcage contains the following works under their own licences.\n")
	for _, body := range bodies {
		fmt.Fprintf(w, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 78), strings.Join(owners[body], "\n"), body)
	}
	return w.Flush()
}

func goOutput(ctx context.Context, dir, system string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS="+system, "CGO_ENABLED=0")
	if dir != "." {
		cmd.Env = append(cmd.Env, "CGO_ENABLED=1") // runc; its C library is listed apart
	}
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("running go %s: %w", args[0], err)
	}
	return out, nil
}
