package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/localimage"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/runner"
)

func TestExitCode(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 0},
		{errors.Join(exitError(3), nil), 3},
		{usagef("hint", "bad"), 2},
		{fmt.Errorf("x: %w", policy.NewError("a:1:1", "bad", "")), 2},
		{policy.Errors{policy.NewError("a:1:1", "bad", "")}, 2},
		{&localimage.InputError{}, 2},
		{&runner.CAError{}, 2},
		{errInterrupted, 130},
		{fmt.Errorf("x: %w", context.Canceled), 130},
		{&docker.Error{Kind: docker.NoEngine}, 125},
		{errors.New("anything else"), 125},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.want)
		}
	}
}

func TestHintOf(t *testing.T) {
	inner := usagef("do this", "bad")
	for _, tc := range []struct {
		err  error
		want string
	}{
		{inner, "do this"},
		{fmt.Errorf("x: %w", inner), "do this"},
		{&docker.Error{Err: inner}, "do this"}, // an empty hint does not hide the cause's
		{&hinted{inner, "do that"}, "do that"},
		{errors.New("bad"), ""},
		{&docker.Error{}, ""},
	} {
		if got := hintOf(tc.err); got != tc.want {
			t.Errorf("%#v: %q, want %q", tc.err, got, tc.want)
		}
	}
}

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"plain":           "plain",
		"a\nb\n":          "a; b",
		"a\tb\rc":         "a bc",
		"\x1b[31mred":     `\u001b[31mred`,
		"müller „quoted“": "müller „quoted“",
		"\u202egnp.exe":   `\u202egnp.exe`,
		"bad \xff byte":   "bad \ufffd byte",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestTarget(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "out")
	link := filepath.Join(dir, "link")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("out", link); err != nil {
		t.Fatal(err)
	}
	tg, err := openTarget(link, "--report")
	if err != nil {
		t.Fatal(err)
	}
	only(t, dir, "link", "out")
	boom := errors.New("boom")
	err = tg.save(func(w io.Writer) error { _, _ = io.WriteString(w, "half"); return boom })
	if !errors.Is(err, boom) || read(t, path) != "old" {
		t.Errorf("%v left %q, want the old content", err, read(t, path))
	}
	only(t, dir, "link", "out")
	if err := tg.save(func(w io.Writer) error { _, err := io.WriteString(w, "new"); return err }); err != nil {
		t.Fatal(err)
	}
	if got := read(t, path); got != "new" {
		t.Errorf("content %q", got)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, want the old file's (%v)", info.Mode(), err)
	}
	only(t, dir, "link", "out")
}

func TestTargetRefused(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{dir, filepath.Join(dir, "no", "file"), filepath.Join(dir, strings.Repeat("x", 300))} {
		if _, err := openTarget(path, "--write"); exitCode(err) != 2 {
			t.Errorf("%q: %v, want a usage error", path, err)
		}
	}
	only(t, dir)
}

func read(t *testing.T, path string) string {
	t.Helper()
	dt, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return string(dt)
}

func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		got = append(got, f.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("directory has %v, want %v", got, want)
	}
}
