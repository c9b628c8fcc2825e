package main

import (
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/contract"
)

// Git comes from Debian's source archive: it has no Go module. It is compiled
// without everything that internal/cage/git does instead, and without its scripts.
const (
	gitVersion  = "2.39.5"
	gitRevision = gitVersion + "-0+deb12u3" // with Debian's patches
	gitArchive  = "git_" + gitVersion + ".orig.tar.xz"
	gitPool     = "/pool/main/g/git/"
	gitSHA256   = "c58da92c378df4a986ca33266897a7397e86c22ee266a284d8c2432c39066b59"
	// mirrorVariable names a mirror of Debian for machines whose packages come from elsewhere.
	mirrorVariable = "DEBIAN_MIRROR"
)

// gitPatches are Debian's, in the order of the file series.
//
//go:embed git/series git/*.patch
var gitPatches embed.FS

// The licence of git and what it says about the source go into the image.
var (
	//go:embed git/COPYING
	gitLicence []byte
	//go:embed git/README
	gitNotice []byte
)

// gitOptions are the settings of git's Makefile.
func gitOptions(dir, cc string) []string {
	return []string{
		"CC=" + cc,
		"CFLAGS=-O2 -fstack-protector-strong -D_FORTIFY_SOURCE=2 -ffile-prefix-map=" + dir + "=git",
		"LDFLAGS=-static -s -Wl,--build-id=none",
		"NO_CURL=1", "NO_EXPAT=1", "NO_OPENSSL=1", "NO_GETTEXT=1", "NO_ICONV=1",
		"NO_PERL=1", "NO_PYTHON=1", "NO_TCLTK=1", "NO_GITWEB=1",
		"prefix=/", "gitexecdir=" + contract.GitDir, "template_dir=" + contract.GitDir + "/templates",
		// Not SHELL_PATH, which make itself would use.
		`SHELL_PATH_CQ_SQ="` + contract.GitDir + "/" + contract.CommandGitRun + `"`,
	}
}

// compileGit builds git into the directory bin, unless what is there was built
// from the same.
func (b *Builder) compileGit(ctx context.Context, bin string, in inputs) error {
	key, err := b.gitKey(in)
	if err != nil {
		return err
	}
	program, stamp := filepath.Join(bin, "git"), filepath.Join(b.Work, "git.stamp")
	if sum, err := hashFile(program); err == nil {
		if old, err := os.ReadFile(stamp); err == nil && string(old) == key+" "+sum.SHA256 {
			return nil
		}
	}
	fmt.Fprintln(b.Log, "image: compiling git")
	dir := filepath.Join(b.Work, "git")
	if err := b.unpackGit(ctx, dir); err != nil {
		return err
	}
	args := append([]string{"-s", "-j" + strconv.Itoa(runtime.NumCPU()), "git"}, gitOptions(dir, in.cc)...)
	if err := b.tool(ctx, dir, "make", args...); err != nil {
		return fmt.Errorf("compiling git (needs make, gcc and zlib1g-dev): %w", err)
	}
	if err := os.Rename(filepath.Join(dir, "git"), program); err != nil {
		return fmt.Errorf("compiling git: %w", err)
	}
	sum, err := hashFile(program)
	if err != nil {
		return fmt.Errorf("compiling git: %w", err)
	}
	return errors.Join(os.RemoveAll(dir), os.WriteFile(stamp, []byte(key+" "+sum.SHA256), 0o644))
}

// gitKey is the digest of what git is compiled from.
func (b *Builder) gitKey(in inputs) (string, error) {
	all := sha256.New()
	fmt.Fprintln(all, gitSHA256, b.Arch, in.toolchain, gitOptions("", in.cc))
	err := fs.WalkDir(gitPatches, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := gitPatches.ReadFile(name)
		fmt.Fprintln(all, name, hashBytes(data).SHA256)
		return err
	})
	return hex.EncodeToString(all.Sum(nil)), err
}

// unpackGit makes dir the patched source of git.
func (b *Builder) unpackGit(ctx context.Context, dir string) error {
	archive, err := b.gitSource(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return fmt.Errorf("unpacking git: %w", err)
	}
	if err := b.tool(ctx, dir, "tar", "-xJf", archive, "--strip-components=1", "--no-same-owner"); err != nil {
		return fmt.Errorf("unpacking git (needs tar and xz): %w", err)
	}
	series, err := gitPatches.ReadFile("git/series")
	if err != nil {
		return err
	}
	for name := range strings.FieldsSeq(string(series)) {
		data, err := gitPatches.ReadFile("git/" + name)
		if err != nil {
			return err
		}
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o644); err != nil {
			return fmt.Errorf("patching git: %w", err)
		}
		if err := b.tool(ctx, dir, "patch", "-s", "-p1", "-i", file); err != nil {
			return fmt.Errorf("patching git with %s: %w", name, err)
		}
	}
	return nil
}

// gitSource is the file with git's source, which is downloaded where it is not
// there. Nothing but its checksum makes it the right one.
func (b *Builder) gitSource(ctx context.Context) (string, error) {
	file := filepath.Join(b.Root, ".cache", "sources", gitArchive)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return "", fmt.Errorf("creating source directory: %w", err)
	}
	if sum, err := hashFile(file); err == nil && sum.SHA256 == gitSHA256 {
		return file, nil
	}
	for _, site := range b.mirrors(ctx) {
		os.Remove(file)
		err := b.tool(ctx, b.Work, "/usr/lib/apt/apt-helper", "-qq", "download-file", site+gitPool+gitArchive, file, "SHA256:"+gitSHA256)
		if err != nil {
			continue // the next one may have it
		}
		if sum, err := hashFile(file); err == nil && sum.SHA256 == gitSHA256 {
			return file, nil
		}
	}
	os.Remove(file)
	return "", fmt.Errorf("downloading %s: no mirror has it: set %s to the address of a Debian mirror, or put the file into %s",
		gitArchive, mirrorVariable, filepath.Dir(file))
}

// mirrors are the addresses of package archives that the person or the machine names.
func (b *Builder) mirrors(ctx context.Context) []string {
	var sites []string
	if site := strings.TrimRight(os.Getenv(mirrorVariable), "/"); site != "" {
		sites = append(sites, site)
	}
	out, err := b.output(ctx, ".", "apt-get", "indextargets", "--format", "$(SITE)", "Created-By: Packages")
	if err != nil {
		return sites
	}
	seen := make(map[string]bool)
	for site := range strings.FieldsSeq(out) {
		if site = strings.TrimRight(site, "/"); !seen[site] && strings.HasPrefix(site, "http") {
			seen[site] = true
			sites = append(sites, site)
		}
	}
	return sites
}

// tool runs a program of the machine without settings that change what it does.
func (b *Builder) tool(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + b.Work, "LC_ALL=C", "SOURCE_DATE_EPOCH=0"}
	for _, name := range []string{"http_proxy", "https_proxy", "no_proxy", "TMPDIR", "SSL_CERT_FILE"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		const most = 2000
		return fmt.Errorf("running %s: %w\n%s", name, err, out[max(0, len(out)-most):])
	}
	return nil
}
