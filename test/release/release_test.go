// Package release tests what a release is made of: goreleaser.yaml is in order,
// and a snapshot for this machine has everything in it and in its place.
//
// Gate: BUILDCAGE_TEST_RELEASE=1, which compiles GoReleaser where it is missing.
package release

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const root = "../.."

func release(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(root, "scripts", "release"), args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("scripts/release %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func TestSnapshot(t *testing.T) {
	if os.Getenv("BUILDCAGE_TEST_RELEASE") != "1" {
		t.Skip("makes a release: set BUILDCAGE_TEST_RELEASE=1")
	}
	dist := filepath.Join(root, "dist")
	if _, err := os.Stat(dist); err == nil {
		t.Fatal("dist/ is there already: remove it")
	}
	t.Cleanup(func() { os.RemoveAll(dist) })
	release(t, "check")
	said := release(t, "here")
	name := only(t, filepath.Join(dist, "buildcage_*_"+runtime.GOOS+"_"+runtime.GOARCH+".tar.gz"))
	stem := strings.TrimSuffix(filepath.Base(name), ".tar.gz")

	made := map[string][]byte{}
	for sum := range strings.Lines(string(read(t, filepath.Join(dist, "SHA256SUMS")))) {
		want, file, _ := strings.Cut(strings.TrimSpace(sum), "  ")
		made[file] = read(t, filepath.Join(dist, file))
		if got := sha256.Sum256(made[file]); hex.EncodeToString(got[:]) != want {
			t.Errorf("%s has another checksum than SHA256SUMS says", file)
		}
	}
	for _, end := range []string{".tar.gz", ".deb", ".rpm", ".spdx.json"} {
		if made[stem+end] == nil {
			t.Errorf("there is no %s%s\n%s", stem, end, said)
		}
	}
	archive(t, unpack(t, made[stem+".tar.gz"]))
	packaged(t, unpack(t, member(t, made[stem+".deb"], "data.tar.gz")))
	if !bytes.HasPrefix(made[stem+".rpm"], []byte{0xed, 0xab, 0xee, 0xdb}) {
		t.Error("the rpm is none")
	}
	components(t, made[stem+".spdx.json"])
}

// archive wants all that stands in the documentation, made by nobody in
// particular at the time of the commit, and a program that is this one.
func archive(t *testing.T, files map[string]entry) {
	t.Helper()
	for _, name := range []string{"buildcage", "LICENSE", "README.md", "THIRD_PARTY_LICENCES", "buildcage.yaml.example",
		"man/buildcage.1.gz", "man/buildcage-build.1.gz", "completions/buildcage.bash", "completions/buildcage.zsh",
		"completions/buildcage.fish", "completions/buildcage.powershell"} {
		if len(files[name].data) == 0 {
			t.Errorf("the archive has no %s", name)
		}
	}
	out, err := exec.CommandContext(t.Context(), "git", "log", "-1", "--format=%ct").Output()
	if err != nil {
		t.Fatal(err)
	}
	at, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range files {
		if !f.ModTime.Equal(time.Unix(at, 0)) || f.Uname != "root" || f.Gname != "root" {
			t.Errorf("%s is of %s:%s at %s: the next build's will differ", name, f.Uname, f.Gname, f.ModTime)
		}
		if word := "buildcage"; !strings.Contains(name, word) && f.Mode&0o111 != 0 {
			t.Errorf("%s can be executed", name)
		}
	}
	program := filepath.Join(t.TempDir(), "buildcage")
	if err := os.WriteFile(program, files["buildcage"].data, 0o755); err != nil {
		t.Fatal(err)
	}
	var says struct{ Version, Cage, BuildKit, Buildx string }
	if out, err = exec.CommandContext(t.Context(), program, "version", "--json").Output(); err == nil {
		err = json.Unmarshal(out, &says)
	}
	var image struct{ Tag string }
	if err := errors.Join(err, json.Unmarshal(read(t, filepath.Join(root, "embed", "cage", runtime.GOARCH, "manifest.json")), &image)); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(says.Version, "v") || says.Cage != image.Tag || !strings.HasPrefix(says.BuildKit, "v") || !strings.HasPrefix(says.Buildx, "v") {
		t.Errorf("the program says %+v, the image is %s", says, image.Tag)
	}
}

// packaged wants files where a Debian system looks for them.
func packaged(t *testing.T, files map[string]entry) {
	t.Helper()
	for _, name := range []string{"usr/bin/buildcage", "usr/share/man/man1/buildcage.1.gz", "usr/share/man/man1/buildcage-audit.1.gz",
		"usr/share/bash-completion/completions/buildcage", "usr/share/zsh/vendor-completions/_buildcage",
		"usr/share/fish/vendor_completions.d/buildcage.fish", "usr/share/doc/buildcage/copyright", "usr/share/doc/buildcage/THIRD_PARTY_LICENCES"} {
		if len(files[name].data) == 0 {
			t.Errorf("the package has no %s", name)
		}
	}
	if link := files["usr/libexec/docker/cli-plugins/docker-cage"].Linkname; link != "/usr/bin/buildcage" {
		t.Errorf("the plugin of the docker command is a link to %q", link)
	}
}

// components wants what the program and its cage are made of.
func components(t *testing.T, text []byte) {
	t.Helper()
	var list struct {
		SPDXVersion string
		Packages    []struct{ Name string }
	}
	if err := json.Unmarshal(text, &list); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range list.Packages {
		names = append(names, p.Name)
	}
	for _, want := range []string{"github.com/docker/buildx", "github.com/moby/buildkit", "github.com/opencontainers/runc", "git", "libseccomp"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s does not list %s among %d components", list.SPDXVersion, want, len(names))
		}
	}
}

// entry is a file of an archive.
type entry struct {
	*tar.Header
	data []byte
}

func unpack(t *testing.T, data []byte) map[string]entry {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]entry{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		files[strings.TrimPrefix(strings.TrimPrefix(h.Name, "."), "/")] = entry{h, content}
	}
}

// member is a file of an ar archive, which is what a package of Debian is.
func member(t *testing.T, data []byte, name string) []byte {
	t.Helper()
	rest, ok := bytes.CutPrefix(data, []byte("!<arch>\n"))
	for ok && len(rest) >= 60 {
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[48:58])))
		if err != nil || 60+size > len(rest) {
			break
		}
		if strings.TrimRight(string(rest[:16]), " /") == name {
			return rest[60 : 60+size]
		}
		rest = rest[min(60+size+size%2, len(rest)):]
	}
	t.Fatalf("the package has no %s", name)
	return nil
}

func only(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) != 1 {
		t.Fatalf("%s: %v %v", filepath.Base(pattern), found, err)
	}
	return found[0]
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
