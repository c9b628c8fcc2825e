package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// What the builder fetches and sends itself is in the report with its bytes:
// base images, files, cache and the image that is pushed.
func TestBuilderTraffic(t *testing.T) {
	o := startOrigin(t)
	const policy = "{allowed_https_rules: [registry.example.com, files.example.com]}"
	build := func(dockerfile string, args ...string) map[string]int64 {
		t.Helper()
		dir := project(t, map[string]string{
			"Dockerfile": dockerfile, "buildcage.yaml": o.policy(policy),
			"f": fmt.Sprint(time.Now().UnixNano()) + strings.Repeat("x", 32<<10), // an image that no cache has
		})
		r := run(t, dir, append(append([]string{"build"}, o.args(args...)...), ".")...).want(t, 0)
		moved := make(map[string]int64)
		for _, s := range r.report.Sources {
			for ref := range strings.SplitSeq(s.Ref, " + ") { // what can't be told apart is told as one
				kind, _, _ := strings.Cut(ref, " ")
				moved[kind] += s.Up + s.Down
			}
		}
		return moved
	}
	const dockerfile = "FROM scratch\nCOPY f /f\nADD https://files.example.com/file /g\n"
	pushed := build(dockerfile, "--no-cache", "--push", "-t", "registry.example.com/app:1")
	// Not in one build: BuildKit's exporters may then wait for each other (moby/buildkit#7145).
	exported := build(dockerfile, "--output", t.TempDir(), "--cache-to", "type=registry,ref=registry.example.com/cache:1,mode=max")
	for kind, moved := range map[string]map[string]int64{"push": pushed, "ADD": pushed, "export": exported} {
		if moved[kind] == 0 {
			t.Errorf("no bytes for %q: %v", kind, moved)
		}
	}
	if pushed["ADD"] < 64<<10 {
		t.Errorf("ADD has %d bytes, the file is larger", pushed["ADD"])
	}
	fetched := build("FROM registry.example.com/app:1\nCOPY f /h\n", "--output", t.TempDir(), "--cache-from", "type=registry,ref=registry.example.com/cache:1")
	for _, kind := range []string{"FROM", "import"} {
		if fetched[kind] == 0 {
			t.Errorf("no bytes for %q: %v", kind, fetched)
		}
	}
}

// With a builder section, what it does not list is refused, whatever it is for.
func TestUnlistedBuilderTraffic(t *testing.T) {
	o := startOrigin(t)
	for name, c := range map[string]struct {
		dockerfile string
		args       []string
		host       string
		code       int
	}{
		"FROM":       {"FROM registry.example.com/app:1\n", nil, "registry.example.com", 1},
		"ADD":        {"FROM scratch\nADD https://files.example.com/file /g\n", nil, "files.example.com", 1},
		"push":       {"FROM scratch\nCOPY f /f\n", []string{"--push", "-t", "registry.example.com/app:1"}, "registry.example.com", 1},
		"cache-to":   {"FROM scratch\nCOPY f /f\n", []string{"--cache-to", "type=registry,ref=registry.example.com/cache:1"}, "registry.example.com", 1},
		"cache-from": {"FROM scratch\nCOPY f /f\n", []string{"--cache-from", "type=registry,ref=registry.example.com/cache:1"}, "registry.example.com", 3},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, map[string]string{"Dockerfile": c.dockerfile, "f": name, "buildcage.yaml": o.policy("{allowed_https_rules: [other.example.com]}")})
			args := append([]string{"build", "--no-cache"}, o.args(c.args...)...)
			if name != "push" {
				args = append(args, "--output", t.TempDir())
			}
			r := run(t, dir, append(args, ".")...).want(t, c.code)
			refused := false
			for _, d := range r.report.Destinations {
				if d.Verdict == "allowed" {
					t.Errorf("allowed: %+v", d)
				}
				refused = refused || d.Host == c.host && d.Verdict == "blocked" && d.Reason == "not-allowed"
			}
			if !refused {
				t.Errorf("%s is not among the refused: %+v\n%s", c.host, r.report.Destinations, tail(r.stderr))
			}
		})
	}
}
