package runner

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A sweep takes the directories of the dead and no other.
func TestDeadDirectories(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	alive := mustMake(t, newRunID())
	defer alive.remove()
	died := mustMake(t, newRunID())
	died.owner.Close()

	young := filepath.Join(tmp, dirPrefix+newRunID())
	forgotten := filepath.Join(tmp, dirPrefix+newRunID())
	shared := filepath.Join(tmp, dirPrefix+newRunID())
	foreign := filepath.Join(tmp, dirPrefix+"notes")
	for _, path := range []string{young, forgotten, shared, foreign} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-2 * unfinished)
	for _, path := range []string{forgotten, shared, foreign} {
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(shared, 0o755); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(tmp, dirPrefix+newRunID())
	if err := os.Symlink(died.path, link); err != nil {
		t.Fatal(err)
	}

	run := func(d *directory) string { return strings.TrimPrefix(filepath.Base(d.path), dirPrefix) }
	d := deadDirectories([]string{tmp})
	if !d.has(run(died)) || d.has(run(alive)) {
		t.Errorf("dead are %v", d.runs)
	}
	if again := deadDirectories([]string{tmp}); again.has(run(died)) {
		t.Error("two sweeps hold the same directory")
	}
	if err := d.remove(); err != nil {
		t.Fatal(err)
	}
	d.close()
	for path, want := range map[string]bool{
		alive.path: true, died.path: false, young: true, forgotten: false, shared: true, foreign: true, link: true,
	} {
		if _, err := os.Lstat(path); (err == nil) != want {
			t.Errorf("%s is there: %t, want %t", path, err == nil, want)
		}
	}
}

func mustMake(t *testing.T, run string) *directory {
	t.Helper()
	d, err := makeDirectory(run)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// The path of a socket has a limit that a long TMPDIR breaks.
func TestLongTemporaryDirectory(t *testing.T) {
	long := filepath.Join(t.TempDir(), strings.Repeat("d", maxSocketPath))
	if err := os.Mkdir(long, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", long)
	d := mustMake(t, newRunID())
	if len(d.socket()) > maxSocketPath {
		t.Errorf("socket path has %d bytes", len(d.socket()))
	}
	if err := d.remove(); err != nil {
		t.Error(err)
	}
}
