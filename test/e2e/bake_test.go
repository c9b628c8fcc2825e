package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBake: two targets in one cage under one policy, told in one report; what
// one of them was refused is not forgotten when the cache answers for it.
func TestBake(t *testing.T) {
	engine(t)
	policy := func(expected string) string { return "version: 1\nknown_blocked_rules: [" + expected + "]\n" }
	dir := project(t, map[string]string{
		"docker-bake.hcl": `group "default" { targets = ["app", "tool"] }
target "app" { target = "app" }
target "tool" { target = "tool" }
`,
		"Dockerfile": `FROM buildcage-demo:base AS app
SHELL ["/bin/bash", "-c"]
RUN (echo > /dev/tcp/app.example.com/443) 2>/dev/null || true
FROM buildcage-demo:base AS tool
SHELL ["/bin/bash", "-c"]
RUN (echo > /dev/tcp/tool.example.com/443) 2>/dev/null || true
`,
		"buildcage.yaml": policy("app.example.com, tool.example.com"),
	})
	args := append([]string{"bake", "--set", "*.output=type=cacheonly"}, apart(t)...)
	bake := func() result { return run(t, dir, args...) }
	first := bake().want(t, 0)
	if n := len(first.report.hosts("blocked")); n != 2 || !first.report.Complete {
		t.Errorf("%d destinations in the report, want both: %+v", n, first.report.Destinations)
	}
	again := bake().want(t, 0)
	for _, s := range again.report.Steps {
		if !s.Cached {
			t.Errorf("built again though all of it is expected: %+v", s)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "buildcage.yaml"), []byte(policy("app.example.com")), 0o644); err != nil {
		t.Fatal(err)
	}
	strict := bake().want(t, 3)
	for _, s := range strict.report.Steps {
		if s.Cached {
			t.Errorf("from the cache, though the policy refuses what it did: %+v", s)
		}
	}
	if !strings.Contains(strict.stderr, "tool.example.com:443") || !strings.Contains(strict.stderr, "Dockerfile:6, stage tool") {
		t.Errorf("not told where:\n%s", tail(strict.stderr))
	}
}
