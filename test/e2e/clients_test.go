package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// compose is the docker command with Compose and buildx as its plugins, both the
// real programs, and nothing of the configuration of this machine.
func compose(t *testing.T) (call func(dir string, args ...string) (string, int)) {
	t.Helper()
	plugins := filepath.Join(t.TempDir(), "cli-plugins")
	if err := os.Mkdir(plugins, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"docker-compose", "docker-buildx"} {
		if err := os.Symlink(clientOf(t, name), filepath.Join(plugins, name)); err != nil {
			t.Fatal(err)
		}
	}
	return func(dir string, args ...string) (string, int) {
		cmd := exec.Command("docker", append([]string{"--config", filepath.Dir(plugins)}, args...)...)
		cmd.Dir = dir
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return out.String(), cmd.ProcessState.ExitCode()
	}
}

// use makes the cage that of every client, as buildcage env says.
func (c *raised) use(t *testing.T) {
	t.Helper()
	line := run(t, ".", "env", c.name).want(t, 0).stdout
	value, ok := strings.CutPrefix(strings.TrimSpace(line), "export BUILDX_BUILDER='")
	if !ok || !strings.HasSuffix(value, "'") {
		t.Fatalf("env: %q", line)
	}
	t.Setenv("BUILDX_BUILDER", strings.TrimSuffix(value, "'"))
}

// Docker's own clients build in the cage that BUILDX_BUILDER names: what they
// build is in the engine, and what it did is in the cage's record.
func TestClientsOfDocker(t *testing.T) {
	c := raise(t, allow("good.example.com"))
	c.use(t)
	call := compose(t)
	step := func(host string) string { return asks("good.example.com", host) }
	dir := c.project(t, "", step("plain.example.com"))
	for name, text := range map[string]string{
		"one.Dockerfile": step("one.example.com"), "two.Dockerfile": step("two.example.com"),
		"web.Dockerfile": step("web.example.com"), "job.Dockerfile": step("job.example.com"),
		"docker-bake.json": `{"group": {"default": {"targets": ["one", "two"]}}, "target": {
			"one": {"dockerfile": "one.Dockerfile", "tags": ["` + prefix() + `:one"], "labels": {"` + imageLabel + `": "` + prefix() + `"}},
			"two": {"dockerfile": "two.Dockerfile", "tags": ["` + prefix() + `:two"], "labels": {"` + imageLabel + `": "` + prefix() + `"}}}}`,
		"compose.yaml": "name: " + prefix() + "\nservices:\n" + service("web") + service("job"),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	label := imageLabel + "=" + prefix()
	for _, client := range []struct {
		args          []string
		hosts, images []string
	}{
		{[]string{"buildx", "build", "--label", label, "-t", prefix() + ":plain", "."}, []string{"plain"}, []string{prefix() + ":plain"}},
		{[]string{"buildx", "bake"}, []string{"one", "two"}, []string{prefix() + ":one", prefix() + ":two"}},
		{[]string{"compose", "build"}, []string{"web", "job"}, []string{prefix() + "-web", prefix() + "-job"}},
	} {
		out, code := call(dir, client.args...)
		if code != 0 {
			t.Errorf("docker %v: exit %d\n%s", client.args, code, tail(out))
			continue
		}
		logs := run(t, ".", "logs", c.name).want(t, 0).stdout
		for _, host := range client.hosts {
			if !strings.Contains(logs, " http "+host+".example.com:80 not-allowed") {
				t.Errorf("docker %v: what asked %s was not in the cage:\n%s", client.args, host, logs)
			}
		}
		for _, image := range client.images {
			if docker(t, "image", "ls", "-q", image) == "" {
				t.Errorf("docker %v: the engine has no image %s", client.args, image)
			}
		}
	}
	// The program itself obeys the variable, too, and has a record of its own.
	if err := os.WriteFile(filepath.Join(dir, "buildcage.yaml"), []byte(allow("plain.example.com")), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, dir, "build", "--no-cache", "--output", "type=cacheonly", ".").want(t, 3)
	if got := r.outcome(); got["plain.example.com failed"] != 1 || got["good.example.com blocked"] != 1 {
		t.Errorf("the program: %v", got)
	}
	run(t, ".", "down", "--volume", c.name).want(t, 0)
	for _, args := range [][]string{{"buildx", "build", "."}, {"compose", "build"}} {
		if out, code := call(dir, args...); code == 0 {
			t.Errorf("docker %v without the cage went on:\n%s", args, tail(out))
		}
	}
}

// service is one of a Compose file, with a Dockerfile of its own.
func service(name string) string {
	return "  " + name + ":\n    build:\n      context: .\n      dockerfile: " + name + ".Dockerfile\n      labels: [" + imageLabel + "=" + prefix() + "]\n"
}
