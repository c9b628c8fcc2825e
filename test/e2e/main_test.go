// Package e2e runs the real program against a real engine: real BuildKit, real
// package managers, real traffic. Every test labels what it makes and ends by
// proving that nothing is left.
//
// Gate: BUILDCAGE_TEST_ENGINE=1. Unset, the tests are skipped; set but without
// an engine, a cage or the base images, they fail.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// binary is the program under test, repo the root of the checkout, outside the
// directory for temporary files of everybody else.
var binary, repo, outside string

// scratch begins the name of the tests' own directory for temporary files.
const scratch = "e2e-"

func TestMain(m *testing.M) {
	if os.Getenv("BUILDCAGE_TEST_ENGINE") != "1" {
		fmt.Println("e2e: skipped: set BUILDCAGE_TEST_ENGINE=1 (make e2e does)")
		os.Exit(m.Run())
	}
	outside = os.TempDir()
	dir, err := os.MkdirTemp("", scratch)
	if err == nil {
		err = errors.Join(os.Setenv("TMPDIR", dir), prepare()) // what the program leaves there is ours
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "e2e:", err)
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

func prepare() error {
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	repo = filepath.Dir(filepath.Dir(wd))
	binary = filepath.Join(repo, "bin", "buildcage")
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("%w: run make build first", err)
	}
	if out, err := exec.Command("docker", "version", "--format", "{{.Server.Version}}").CombinedOutput(); err != nil {
		return fmt.Errorf("no engine: %s", out)
	}
	for _, image := range []string{"base", "node", "go"} {
		if out, err := exec.Command(filepath.Join(repo, "scripts", "base-image"), image).CombinedOutput(); err != nil {
			return fmt.Errorf("base image %s: %s", image, out)
		}
	}
	return nil
}

func engine(t *testing.T) {
	t.Helper()
	if os.Getenv("BUILDCAGE_TEST_ENGINE") != "1" {
		t.Skip("set BUILDCAGE_TEST_ENGINE=1 to run against the engine")
	}
	before := leftovers(t)
	t.Cleanup(func() {
		for what := range leftovers(t) {
			if !before[what] {
				t.Errorf("left behind: %s", what)
			}
		}
	})
}

// cages returns the ids of the program's containers. Other runs of it may use
// the engine at the same time; their private directories, which outlive their
// containers, are outside of the tests' own directory for temporary files.
func cages(t *testing.T, args ...string) []string {
	t.Helper()
	list := func() []string {
		return strings.Split(docker(t, append([]string{"ps", "--filter", "name=^/buildcage-[0-9]+$",
			"--format", `{{.ID}} {{.Label "com.buildcage.run"}}`}, args...)...), "\n")
	}
	var ours []string
	for _, line := range list() {
		if id, run, ok := strings.Cut(line, " "); ok {
			if !foreign(run) {
				ours = append(ours, id)
			}
		}
	}
	now := strings.Join(list(), "\n") // another run may have ended before its directory was looked for
	return slices.DeleteFunc(ours, func(id string) bool { return !strings.Contains(now, id) })
}

// foreign reports whether somebody else has the private directory of a run: the
// person who uses this machine, or these tests in another checkout.
func foreign(run string) bool {
	for _, pattern := range []string{"buildcage-" + run, scratch + "*/buildcage-" + run} {
		dirs, _ := filepath.Glob(filepath.Join(outside, pattern))
		if slices.ContainsFunc(dirs, func(dir string) bool { return filepath.Dir(dir) != os.TempDir() }) {
			return true
		}
	}
	return false
}

// leftovers are the containers, private directories and builders of the
// program that exist now.
func leftovers(t *testing.T) map[string]bool {
	t.Helper()
	found := make(map[string]bool)
	for _, id := range cages(t, "--all") {
		found["container "+id] = true
	}
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), "buildcage-*"))
	for _, d := range dirs {
		found["directory "+d] = true
	}
	home, _ := os.UserHomeDir()
	builders, _ := filepath.Glob(filepath.Join(home, ".docker", "buildx", "instances", "*"))
	for _, b := range builders {
		found["builder "+b] = true
	}
	return found
}

// apart gives the cages of a test a cache of their own: other runs on this
// engine may take the one that a build has just filled. It ends with the test.
func apart(t *testing.T) []string {
	t.Helper()
	prefix := fmt.Sprintf("buildcage-apart-%d", time.Now().UnixNano())
	t.Cleanup(func() {
		if left := docker(t, "ps", "-aq", "--filter", "name=^/"+prefix); left != "" {
			t.Errorf("left behind: containers %s", left)
		}
		for volume := range strings.FieldsSeq(docker(t, "volume", "ls", "-q", "--filter", "name="+prefix)) {
			docker(t, "volume", "rm", volume)
		}
	})
	return []string{"--cage-prefix", prefix}
}

func docker(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("docker %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// result of one run of the program.
type result struct {
	code           int
	stdout, stderr string
	report         report
}

// report is what the tests read of the JSON report.
type report struct {
	Schema   string `json:"schema"`
	Mode     string `json:"mode"`
	Outcome  string `json:"outcome"`
	Complete bool   `json:"complete"`
	Steps    []struct {
		ID      string `json:"id"`
		Command string `json:"command"`
		Stage   string `json:"stage"`
		Line    int    `json:"line"`
		Cached  bool   `json:"cached"`
		Exit    *int   `json:"exit"`
	} `json:"steps"`
	Destinations []struct {
		Host        string   `json:"host"`
		Port        int      `json:"port"`
		Protocol    string   `json:"protocol"`
		Verdict     string   `json:"verdict"`
		Reason      string   `json:"reason"`
		Detail      []string `json:"detail"`
		Flags       []string `json:"flags"`
		Rule        string   `json:"rule"`
		Connections int      `json:"connections"`
		BytesUp     int64    `json:"bytes_up"`
		BytesDown   int64    `json:"bytes_down"`
		Steps       []string `json:"steps"`
	} `json:"destinations"`
	Drops []struct {
		Protocol string `json:"protocol"`
		Address  string `json:"address"`
		Port     int    `json:"port"`
	} `json:"drops"`
	DNSOnly []struct {
		Name string `json:"name"`
	} `json:"dns_only"`
	Sources []struct {
		Ref  string `json:"ref"`
		Host string `json:"host"`
		Up   int64  `json:"bytes_up"`
		Down int64  `json:"bytes_down"`
	} `json:"sources"`
}

// hosts lists "host:port verdict" of the RUN steps' destinations.
func (r report) hosts(verdict string) map[string]bool {
	all := make(map[string]bool)
	for _, d := range r.Destinations {
		if d.Verdict == verdict && !(len(d.Steps) == 1 && d.Steps[0] == "builder") {
			all[fmt.Sprintf("%s:%d", d.Host, d.Port)] = true
		}
	}
	return all
}

// run executes the program and reads its JSON report, which goes to a file of its own.
func run(t *testing.T, dir string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "report.json")
	switch args[0] {
	case "build", "audit", "bake":
		args = append([]string{args[0], "--report", "text", "--report", "json=" + file, "--progress", "plain"}, args[1:]...)
	}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Dir = dir
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	r := result{stdout: stdout.String(), stderr: stderr.String()}
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
	case err != nil:
		t.Fatalf("running %v: %v", args, err)
	}
	if b, err := os.ReadFile(file); err == nil {
		if err := json.Unmarshal(b, &r.report); err != nil {
			t.Fatalf("report of %v: %v\n%s", args, err, b)
		}
	}
	return r
}

// want fails the test with everything the program said when the code differs.
func (r result) want(t *testing.T, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit %d, want %d\nstdout:\n%s\nstderr:\n%s", r.code, code, r.stdout, tail(r.stderr))
	}
	return r
}

func tail(s string) string {
	const most = 6000
	if len(s) > most {
		return "…" + s[len(s)-most:]
	}
	return s
}

// project writes files into a fresh directory.
func project(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// client asks a package client on this machine for a setting.
func client(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).Output()
	if err != nil {
		t.Fatalf("%s %v: %v", name, args, err)
	}
	return strings.TrimSpace(string(out))
}
