package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What buildcage and the stock programs have in common is compiled once, which
// takes the same version of it in both modules.
func TestSharedVersions(t *testing.T) {
	root := filepath.Join("..", "..")
	ours := modules(t, root, "./cmd/...")
	for path, version := range modules(t, filepath.Join(root, stockModule), buildkitModule+"/cmd/buildkitd") {
		if v, shared := ours[path]; shared && v != version {
			t.Errorf("%s: %s here, %s in %s", path, v, version, stockModule)
		}
	}
}

// modules returns the versions of what the packages are compiled from.
func modules(t *testing.T, dir, packages string) map[string]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", packages)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	versions := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		path, version, _ := strings.Cut(strings.TrimSpace(line), " ")
		versions[path] = version
	}
	delete(versions, "")
	return versions
}
