package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLock: what an audit locks, a build keeps to; a lock that says less or
// more is drift, also when the cache answers for the step.
func TestLock(t *testing.T) {
	engine(t)
	dir := project(t, ecosystems()[0].files(t))
	args := []string{"--output", "type=cacheonly", "."}
	run(t, dir, append([]string{"audit", "--write", "buildcage.yaml", "--seen", "--lock"}, args...)...).want(t, 0)
	path := filepath.Join(dir, "buildcage.lock")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), `- run: "apt-get update`) {
		t.Errorf("the lock does not name the step:\n%s", text)
	}
	policy, err := os.ReadFile(filepath.Join(dir, "buildcage.yaml"))
	if err != nil || !strings.Contains(string(policy), " # seen: apt-get update") {
		t.Errorf("the policy does not say by which step a host was seen (%v):\n%s", err, policy)
	}
	run(t, dir, append([]string{"build", "--no-cache", "--locked"}, args...)...).want(t, 0)
	run(t, dir, append([]string{"build", "--locked"}, args...)...).want(t, 0)
	run(t, dir, "check").want(t, 0)

	lines := strings.SplitAfter(string(text), "\n")
	less := strings.Join(lines[:len(lines)-2], "") + `      - "gone.example.com:443 https"` + "\n"
	if err := os.WriteFile(path, []byte(less), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, dir, append([]string{"build", "--locked"}, args...)...).want(t, 4)
	for _, want := range []string{"\n+ ", "\n- gone.example.com:443 (https)"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("%q is not told:\n%s", want, tail(r.stderr))
		}
	}
	run(t, dir, "check").want(t, 4)
	run(t, dir, append([]string{"build", "--lock"}, args...)...).want(t, 0)
	if again, err := os.ReadFile(path); err != nil || string(again) != string(text) {
		t.Errorf("the lock of a cached build differs (%v):\n%s\nwant\n%s", err, again, text)
	}
}
