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
	"strings"
	"testing"
	"time"
)

// binary is the program under test, repo the root of the checkout.
var binary, repo string

// scratch begins the name of the tests' own directory for temporary files.
const scratch = "e2e-"

func TestMain(m *testing.M) {
	if os.Getenv("BUILDCAGE_TEST_ENGINE") != "1" {
		fmt.Println("e2e: skipped: set BUILDCAGE_TEST_ENGINE=1 (make e2e does)")
		os.Exit(m.Run())
	}
	dir, err := os.MkdirTemp("", scratch)
	if err == nil {
		err = errors.Join(os.Setenv("TMPDIR", dir), prepare()) // what the program leaves there is ours
	}
	code := 1
	if err == nil {
		err = sweep() // what killed runs have left
	}
	if err == nil {
		code = m.Run()
		err = sweep()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
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
	cmd := exec.CommandContext(ctx, binary, owned(args)...)
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
