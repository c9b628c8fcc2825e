package e2e

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// oldImage puts an image of another version into the engine, as if it had been
// there since yesterday.
func (e *own) oldImage(t *testing.T, name string) {
	t.Helper()
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	err := w.WriteHeader(&tar.Header{Name: "bin/caged", Mode: 0o755, Size: int64(len(name))})
	if err == nil {
		_, err = w.Write([]byte(name))
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("docker", "import", "--change", "LABEL com.buildcage=1", "-", name)
	cmd.Stdin = &archive
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker import: %v", err)
	}
	id := strings.TrimPrefix(strings.TrimSpace(string(out)), "sha256:")
	file := filepath.Join(e.data(), "image", "overlay2", "imagedb", "metadata", "sha256", id, "lastUpdated")
	if err := os.WriteFile(file, []byte(time.Now().Add(-24*time.Hour).Format(time.RFC3339Nano)), 0o600); err != nil {
		t.Fatal(err)
	}
}

// stock is what of the program is in the engine, by name.
func stock(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, args := range [][]string{
		{"ps", "-a", "--filter", "label=com.buildcage", "--format", "container {{.Names}}"},
		{"volume", "ls", "--filter", "label=com.buildcage", "--format", "volume {{.Name}}"},
		{"image", "ls", "--filter", "label=com.buildcage", "--format", "image {{.Repository}}:{{.Tag}}"},
	} {
		if out := docker(t, args...); out != "" {
			all = append(all, strings.Split(out, "\n")...)
		}
	}
	slices.Sort(all)
	return all
}

// Prune says what it would remove, removes that and nothing else: not what runs
// and its cache, not the image of this version, and what temporary cages have
// only when asked to.
func TestPrune(t *testing.T) {
	e := ownEngine(t)
	runs := raise(t, allow("house.example.com"))
	dir := runs.project(t, "version: 1\n", asks("x.example.com"))
	prune := func(args ...string) []string {
		r := run(t, ".", append([]string{"prune"}, args...)...).want(t, 0)
		lines := strings.FieldsFunc(r.stdout, func(c rune) bool { return c == '\n' })
		slices.Sort(lines)
		return lines
	}
	run(t, dir, "build", "--cage-prefix", "buildcage", "--output", "type=cacheonly", ".").want(t, 3) // as anybody's
	run(t, dir, "up", "--name", "ended", "--idle", "1s", "--cage-resolver", nobody).want(t, 0)
	run(t, dir, "up", "--name", "gone", "--cage-resolver", nobody).want(t, 0)
	run(t, dir, "build", "--cage", "gone", "--output", "type=cacheonly", ".").want(t, 3)
	run(t, dir, "down", "gone").want(t, 0)
	e.oldImage(t, "buildcage-cage:0123456789abcdef")
	e.oldImage(t, "somebody/else:1")
	(&raised{name: "ended"}).until(t, func(l line) bool { return l.State == "idle" })

	before := stock(t)
	if evidence, _ := filepath.Glob(filepath.Join(e.data(), "volumes", "buildcage-state-gone", "_data", "buildcage-evidence", "*.json")); len(evidence) == 0 {
		t.Error("the cage that is gone has left no evidence: there is nothing to see")
	}
	want := []string{"1 old images", "cache buildcage-state-gone", "cage ended and its cache"}
	with := func(verb string, list ...string) (lines []string) {
		for _, what := range list {
			lines = append(lines, verb+" "+what)
		}
		slices.Sort(lines)
		return lines
	}
	if got := prune("--dry-run"); !slices.Equal(got, with("would remove", want...)) {
		t.Errorf("prune --dry-run: %q", got)
	}
	if now := stock(t); !slices.Equal(now, before) {
		t.Errorf("a dry run has changed %q to %q", before, now)
	}
	if got := prune(); !slices.Equal(got, with("removed", want...)) {
		t.Errorf("prune: %q", got)
	}
	left := slices.DeleteFunc(slices.Clone(before), func(s string) bool {
		return strings.HasSuffix(s, "ended") || strings.HasSuffix(s, "gone") || s == "image buildcage-cage:0123456789abcdef"
	})
	if now := stock(t); !slices.Equal(now, left) {
		t.Errorf("prune leaves %q, want %q", now, left)
	}
	if builders, _ := filepath.Glob(filepath.Join(os.Getenv("BUILDX_CONFIG"), "instances", "*")); len(builders) != 1 {
		t.Errorf("builders %q, want that of the cage that runs", builders)
	}
	if got := prune("--all"); !slices.Equal(got, []string{"removed cache buildcage-state-0"}) {
		t.Errorf("prune --all: %q", got)
	}
	if r := run(t, ".", "prune", "--all").want(t, 0); r.stdout != "" || !strings.Contains(r.stderr, "there is nothing to remove") {
		t.Errorf("once more: %q, %q", r.stdout, r.stderr)
	}
	runs.serves(t)
}

// A build that needs more than the cache may hold leaves less than that behind,
// in a temporary cage at once, in one that stays within BuildKit's minute.
func TestCacheMax(t *testing.T) {
	const limit, size = 100_000_000, 40_000_000
	e := ownEngine(t)
	c := raise(t, "version: 1\n", "--cache-max", fmt.Sprint(limit))
	text := "FROM scratch\nCOPY ask /ask\n"
	for i := range 5 {
		text += fmt.Sprintf("RUN [\"/ask\", \"-fill\", \"%d\", \"-done\", \"/f%d\"]\n", size, i)
	}
	dir := c.project(t, "version: 1\n", text)
	used := func(volume string) (sum int64) {
		root := filepath.Join(e.data(), "volumes", volume, "_data")
		_ = filepath.Walk(root, func(_ string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				sum += info.Size()
			}
			return nil // what goes away meanwhile is not used
		})
		return sum
	}
	run(t, dir, "build", "--cage-prefix", "buildcage", "--cache-max", fmt.Sprint(limit), "--no-cache", "--output", "type=cacheonly", ".").want(t, 0)
	if n := used("buildcage-state-0"); n > limit || n < size {
		t.Errorf("the temporary cage has left %d bytes, its limit is %d", n, limit)
	}
	c.build(t, dir).want(t, 0)
	if n := used("buildcage-state-" + c.name); n < size {
		t.Errorf("the cage has %d bytes after the build", n)
	}
	for deadline := time.Now().Add(2 * time.Minute); used("buildcage-state-"+c.name) > limit; {
		if time.Now().After(deadline) {
			t.Fatalf("the cage still has %d bytes, its limit is %d", used("buildcage-state-"+c.name), limit)
		}
		run(t, ".", "ls").want(t, 0)
	}
}
