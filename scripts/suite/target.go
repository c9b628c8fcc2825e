package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// target is a package with tests.
type target struct {
	path   string
	engine bool // some of its tests use a real engine
}

// isCage reports whether the package runs in the cage.
func (t target) isCage() bool {
	return t.under("cmd/caged", "internal/cage", "internal/policy", "internal/event", "internal/contract")
}

func (t target) isE2E() bool { return t.under("test/e2e") }

func (t target) under(dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool {
		return t.path == module+"/"+dir || strings.HasPrefix(t.path, module+"/"+dir+"/")
	})
}

// list returns the packages of the module that have tests.
func list(ctx context.Context) ([]target, error) {
	const format = `{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}} {{.Dir}}{{end}}`
	cmd := exec.CommandContext(ctx, "go", "list", "-f", format, module+"/...")
	cmd.Stderr = os.Stderr
	data, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("listing packages: %w", err)
	}
	var all []target
	for line := range strings.Lines(string(data)) {
		path, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		engine, err := asksForEngine(dir)
		if err != nil {
			return nil, fmt.Errorf("listing packages: %w", err)
		}
		all = append(all, target{path, engine})
	}
	return all, nil
}

// asksForEngine reports whether a test in dir has the engine's gate, itself or
// through package dockertest.
func asksForEngine(dir string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return false, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return false, err
		}
		if bytes.Contains(text, []byte(engineGate)) || bytes.Contains(text, []byte("/docker/dockertest\"")) {
			return true, nil
		}
	}
	return false, nil
}
