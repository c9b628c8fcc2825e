package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// nobody is a resolver that does not answer: what is allowed fails, and is told
// from what is refused; nothing of these tests leaves the cage.
const nobody = "127.0.0.1:9"

// raised is a cage that stays, for one test.
type raised struct {
	name string
	ask  string // the program in its images
}

// raise starts a cage that stays, with a list of builders of its own, and ends
// it after the test.
func raise(t *testing.T, policy string, flags ...string) *raised {
	t.Helper()
	engine(t)
	t.Setenv("BUILDX_CONFIG", t.TempDir())
	c := &raised{name: fmt.Sprintf("t%d-%d", os.Getpid(), time.Now().UnixNano()%1e6), ask: filepath.Join(t.TempDir(), "ask")}
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", c.ask, "./ask")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build ask: %v\n%s", err, out)
	}
	dir := project(t, map[string]string{"buildcage.yaml": policy})
	t.Cleanup(func() { c.down(t) })
	run(t, dir, append([]string{"up", "--name", c.name, "--cage-resolver", nobody}, flags...)...).want(t, 0)
	return c
}

// down ends the cage, and proves that nothing of it is left.
func (c *raised) down(t *testing.T) {
	t.Helper()
	if t.Failed() {
		t.Logf("diagnostics:\n%s", tail(run(t, ".", "logs", "--diagnostics", c.name).stdout))
	}
	run(t, ".", "down", "--volume", c.name)
	if left := docker(t, "ps", "-aq", "--filter", "label=com.buildcage.name="+c.name); left != "" {
		t.Errorf("left behind: container %s", left)
	}
	if left := docker(t, "volume", "ls", "-q", "--filter", "name=buildcage-state-"+c.name); left != "" {
		t.Errorf("left behind: volume %s", left)
	}
	builders, _ := filepath.Glob(filepath.Join(os.Getenv("BUILDX_CONFIG"), "instances", "*"))
	if len(builders) > 0 {
		t.Errorf("left behind: builders %v", builders)
	}
}

// project is a build that asks hosts.
func (c *raised) project(t *testing.T, policy, dockerfile string) string {
	t.Helper()
	dir := project(t, map[string]string{"buildcage.yaml": policy, "Dockerfile": dockerfile})
	data, err := os.ReadFile(c.ask)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "ask"), data, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// asks is a Dockerfile with one step.
func asks(args ...string) string {
	words, _ := json.Marshal(append([]string{"/ask"}, args...))
	return "FROM scratch\nCOPY ask /ask\nRUN " + string(words) + "\n"
}

func allow(hosts ...string) string {
	return "version: 1\nallowed_http_rules: [" + strings.Join(hosts, ", ") + "]\n"
}

// build builds in the cage and leaves no image.
func (c *raised) build(t *testing.T, dir string, flags ...string) result {
	t.Helper()
	args := append([]string{"build", "--cage", c.name, "--no-cache", "--output", "type=cacheonly"}, flags...)
	return run(t, dir, append(args, ".")...)
}

// outcome is what a report says about hosts, "host verdict" → connections.
func (r result) outcome() map[string]int {
	all := make(map[string]int)
	for _, d := range r.report.Destinations {
		all[d.Host+" "+d.Verdict] += d.Connections
	}
	return all
}

// clientOf is one of Docker's own clients, as scripts/clients builds it.
func clientOf(t *testing.T, name string) string {
	t.Helper()
	program := filepath.Join(repo, ".cache", "bin", name)
	if _, err := os.Stat(program); err == nil {
		return program
	}
	if out, err := exec.Command(filepath.Join(repo, "scripts", "clients")).CombinedOutput(); err != nil {
		t.Fatalf("scripts/clients: %v\n%s", err, out)
	}
	return program
}

// buildx runs the standalone program.
func buildx(t *testing.T, dir string, args ...string) (output string, code int) {
	t.Helper()
	cmd := exec.Command(clientOf(t, "docker-buildx"), args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Plain docker buildx builds in a cage that stays, by its name, under the
// cage's own policy; what would open the cage is refused there, too.
func TestUpServesPlainBuildx(t *testing.T) {
	c := raise(t, allow("good.example.com"))
	dir := c.project(t, "", asks("good.example.com", "evil.example.com"))
	out, code := buildx(t, dir, "build", "--builder", c.name, "--progress", "plain", "--output", "type=cacheonly", ".")
	if code != 0 || !strings.Contains(out, "evil.example.com: 403") || !strings.Contains(out, "buildcage: refused http evil.example.com:80") {
		t.Errorf("exit %d\n%s", code, tail(out))
	}
	if logs := run(t, ".", "logs", c.name).want(t, 0).stdout; !strings.Contains(logs, "blocked step s1 http evil.example.com:80 not-allowed") {
		t.Errorf("logs:\n%s", logs)
	}
	out, code = buildx(t, dir, "build", "--builder", c.name, "--allow", "network.host", "--network", "host", ".")
	if code == 0 || !strings.Contains(out, "entitlement network.host is not granted in the cage") {
		t.Errorf("network.host: exit %d\n%s", code, tail(out))
	}
	if line := run(t, ".", "env", c.name).want(t, 0).stdout; line != "export BUILDX_BUILDER='"+c.name+"'\n" {
		t.Errorf("env: %q", line)
	}
	var list []struct {
		Name, State string
		Total       int `json:"builds_total"`
	}
	if err := json.Unmarshal([]byte(run(t, ".", "ls", "--json").want(t, 0).stdout), &list); err != nil {
		t.Fatal(err)
	}
	found := false
	for _, l := range list {
		found = found || l.Name == c.name && l.State == "running" && l.Total > 0
	}
	if !found {
		t.Errorf("ls: %+v", list)
	}
	run(t, ".", "down", "--volume", c.name).want(t, 0)
	if out, code := buildx(t, dir, "build", "--builder", c.name, "."); code == 0 {
		t.Errorf("a build without the cage went on:\n%s", tail(out))
	}
}

// Many builds at once, each under a policy of its own: none may do what another
// one may, and every refusal stands in the record of the build that it is about.
func TestManyPolicies(t *testing.T) {
	const many = 32
	c := raise(t, "version: 1\n")
	host := func(i int) string { return fmt.Sprintf("own-%d.example.com", i%many) }
	var all sync.WaitGroup
	for i := range many {
		dir := c.project(t, allow(host(i)), asks("-wait", "100ms", host(i), host(i+1), host(i)))
		all.Go(func() {
			r := c.build(t, dir)
			got := r.outcome()
			if r.code != 3 || !r.report.Complete || len(got) != 2 || got[host(i)+" failed"] != 2 || got[host(i+1)+" blocked"] != 1 {
				t.Errorf("build %d: exit %d, complete %v, %v\n%s", i, r.code, r.report.Complete, got, tail(r.stderr))
			}
		})
	}
	all.Wait()
}

// BuildKit runs once what builds under one policy have in common. Such a step
// stands in the report of each.
func TestSharedStep(t *testing.T) {
	c := raise(t, "version: 1\n")
	policy := allow("both.example.com")
	text := asks("-wait", "1s", "both.example.com", "both.example.com", "no.example.com")
	var all sync.WaitGroup
	for range 2 {
		dir := c.project(t, policy, text)
		all.Go(func() {
			r := c.build(t, dir)
			got := r.outcome()
			if r.code != 3 || got["both.example.com failed"] != 2 || got["no.example.com blocked"] != 1 {
				t.Errorf("exit %d, %v\n%s", r.code, got, tail(r.stderr))
			}
			for _, d := range r.report.Destinations {
				if !slices.Contains(d.Flags, "shared") {
					t.Errorf("%s: flags %q: the step was not shared", d.Host, d.Flags)
				}
			}
		})
	}
	all.Wait()
}

// A client that is killed takes its build along, and nothing of another's.
func TestKilledClient(t *testing.T) {
	c := raise(t, "version: 1\n")
	victim := c.project(t, allow("a.example.com"), asks("-wait", "2m", "a.example.com", "b.example.com"))
	cmd := exec.Command(binary, "build", "--cage", c.name, "--no-cache", "--progress", "plain", "--output", "type=cacheonly", ".")
	cmd.Dir = victim
	var said bytes.Buffer
	pipe, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for buf := make([]byte, 4096); !strings.Contains(said.String(), "a.example.com: 5"); {
		n, err := pipe.Read(buf)
		said.Write(buf[:n])
		if err != nil {
			t.Fatalf("the step did not run:\n%s", &said)
		}
	}
	other := c.project(t, allow("c.example.com"), asks("-wait", "2s", "c.example.com", "c.example.com", "a.example.com"))
	done := make(chan result, 1)
	go func() { done <- c.build(t, other) }()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	r := <-done
	if got := r.outcome(); r.code != 3 || got["c.example.com failed"] != 2 || got["a.example.com blocked"] != 1 {
		t.Errorf("the other build: exit %d, %v\n%s", r.code, got, tail(r.stderr))
	}
	deadline := time.Now().Add(30 * time.Second)
	for builds := -1; builds != 0; {
		var list []struct {
			Name   string
			Builds int
		}
		if err := json.Unmarshal([]byte(run(t, ".", "ls", "--json").want(t, 0).stdout), &list); err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			if l.Name == c.name {
				builds = l.Builds
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d builds go on", builds)
		}
	}
}

// Two hundred steps at once, ten thousand destinations in one step: the report
// is complete, the cage's memory is bounded, the text stays readable.
func TestScale(t *testing.T) {
	c := raise(t, "version: 1\n", "--max-parallelism", "200")
	t.Run("steps", func(t *testing.T) {
		const many = 200
		var text, final strings.Builder
		text.WriteString("FROM scratch AS base\nCOPY ask /ask\n")
		final.WriteString("FROM scratch\n")
		for i := range many {
			fmt.Fprintf(&text, "FROM base AS s%d\nRUN [\"/ask\", \"-done\", \"/done\", \"h-%d.example.com\"]\n", i, i)
			fmt.Fprintf(&final, "COPY --from=s%d /done /d%d\n", i, i)
		}
		r := c.build(t, c.project(t, "version: 1\n", text.String()+final.String()))
		for line := range strings.Lines(r.stderr) {
			if r.code != 3 && (strings.Contains(line, "error:") || strings.Contains(line, "ERROR")) {
				t.Log(line)
			}
		}
		r.want(t, 3)
		stages := make(map[string]string)
		for _, s := range r.report.Steps {
			stages[s.ID] = s.Stage
		}
		hosts := make(map[string]bool) // a client that waits too long tries twice, and may leave before it says what it wants
		for _, d := range r.report.Destinations {
			hosts[d.Host] = true
			want := "s" + strings.TrimSuffix(strings.TrimPrefix(d.Host, "h-"), ".example.com")
			if d.Verdict != "blocked" || len(d.Steps) != 1 || stages[d.Steps[0]] != want {
				t.Errorf("%s: %s in steps %v, want stage %s", d.Host, d.Verdict, d.Steps, want)
			}
		}
		if len(hosts) != many || !r.report.Complete {
			t.Errorf("%d hosts, complete %v", len(hosts), r.report.Complete)
		}
	})
	t.Run("destinations", func(t *testing.T) {
		const many, steps = 10_000, 4 // one step may ask for 4096 names
		text := "FROM scratch\nCOPY ask /ask\n"
		for i := range steps {
			text += fmt.Sprintf("RUN [\"/ask\", \"-count\", \"%d\", \"-at\", \"32\", \"h-%%d.s%d.example.com\"]\n", many/steps, i)
		}
		r := c.build(t, c.project(t, "version: 1\n", text)).want(t, 3)
		if !r.report.Complete || len(r.report.Destinations) != many {
			t.Errorf("%d destinations, complete %v", len(r.report.Destinations), r.report.Complete)
		}
		if lines := strings.Count(r.stderr, "\n"); lines > 700 { // the log of the build included
			t.Errorf("the report has %d lines", lines)
		}
	})
	stats := docker(t, "stats", "--no-stream", "--format", "{{.MemUsage}}", "buildcage-"+c.name)
	t.Logf("memory of the cage afterwards: %s", stats)
}
