// Package action tests what the GitHub action's script does on a runner: what
// it installs, from where, and what it asks of the program. That the reports
// come out right is tested with a real build in test/e2e.
package action

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const root = "../.."

// recorder is a program that says how it was called: one argument a line.
const recorder = "#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit ${RECORDER_EXIT:-0}\n"

// runner is a machine that runs the action.
type runner struct {
	env    []string
	output string // file of GITHUB_OUTPUT
}

func newRunner(t *testing.T, env ...string) *runner {
	t.Helper()
	dir := t.TempDir()
	r := &runner{output: filepath.Join(dir, "output")}
	r.env = append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "RUNNER_TEMP=" + dir, "RUNNER_OS=Linux", "RUNNER_ARCH=X64", "GITHUB_OUTPUT=" + r.output,
		"INPUT_FAIL_ON_BLOCKED=true", "INPUT_SUMMARY=true", "INPUT_ANNOTATIONS=true",
	}, env...)
	return r
}

// run returns what the script printed and its exit code.
func (r *runner) run(t *testing.T) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(root, "scripts", "action"))
	cmd.Env = r.env
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// program writes the recorder to disk.
func program(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "buildcage")
	if err := os.WriteFile(path, []byte(recorder), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestInputs: what comes out of action.yml's inputs on the command line.
func TestInputs(t *testing.T) {
	always := []string{"--report", "text"}
	for name, c := range map[string]struct {
		env  []string
		want []string
	}{
		"default": {nil, []string{"build", "--fail-on-blocked=true", "--report", "text", "--report", "github=-", "--progress", "plain", "--", "."}},
		"the other action's inputs": {
			[]string{"INPUT_PROXY_MODE=restrict", "INPUT_ALLOWED_HTTPS_RULES=pypi.org\n*.example.com:8443\n", "INPUT_ALLOWED_HTTP_RULES= ", "INPUT_ALLOWED_IP_RULES=192.0.2.1:443",
				"INPUT_KNOWN_BLOCKED_RULES=telemetry.example.com", "INPUT_FAIL_ON_BLOCKED=false", "INPUT_ANNOTATIONS=false"},
			slices.Concat([]string{"build", "--fail-on-blocked=false", "--allow-https", "pypi.org", "*.example.com:8443", "--allow-ip", "192.0.2.1:443",
				"--known-blocked", "telemetry.example.com"}, always, []string{"--progress", "plain", "--", "."}),
		},
		"audit": {
			[]string{"INPUT_PROXY_MODE=audit", "INPUT_WRITE=buildcage.yaml", "INPUT_ANNOTATIONS=false", "INPUT_CONTEXT=-odd dir", "GITHUB_STEP_SUMMARY=/x", "INPUT_SARIF=a.sarif", "INPUT_REPORT=r.json"},
			[]string{"audit", "--fail-on-blocked=true", "--write", "buildcage.yaml", "--report", "text", "--report", "markdown", "--report", "sarif=a.sarif", "--report", "json=r.json",
				"--progress", "plain", "--", "-odd dir"},
		},
		"comments and lines of Windows": {
			[]string{"INPUT_ALLOWED_HTTPS_RULES=# the index\r\npypi.org # and its files\r\n\t#none\r\nfiles.example.com", "INPUT_KNOWN_BLOCKED_RULES=#",
				"INPUT_ARGS=# none\r\n  #--push\r\n--tag shop:1#2\r\n", "INPUT_ANNOTATIONS=false"},
			[]string{"build", "--fail-on-blocked=true", "--allow-https", "", "pypi.org", "", "files.example.com", "--report", "text", "--tag", "shop:1#2", "--progress", "plain", "--", "."},
		},
		"what a shell would run": {
			[]string{"INPUT_ALLOWED_HTTPS_RULES=$(touch /x) `id` ; id | id & > /x ' \"", "INPUT_CONTEXT=$(id)", "INPUT_CONFIG=a b'\"; id", "INPUT_ANNOTATIONS=false", "INPUT_SARIF=*"},
			[]string{"build", "--fail-on-blocked=true", "--config", "a b'\"; id", "--allow-https", "$(touch /x) `id` ; id | id & > /x ' \"",
				"--report", "text", "--report", "sarif=*", "--progress", "plain", "--", "$(id)"},
		},
		"flags of buildx": {
			[]string{"INPUT_ANNOTATIONS=false", "INPUT_ARGS=--tag shop:1\n  --build-arg A=b c $(touch /x)\r\n\n--push"},
			[]string{"build", "--fail-on-blocked=true", "--report", "text", "--tag", "shop:1", "--build-arg", "A=b c $(touch /x)", "--push", "--progress", "plain", "--", "."},
		},
	} {
		t.Run(name, func(t *testing.T) {
			out, code := newRunner(t, append(c.env, "INPUT_BINARY="+program(t))...).run(t)
			if diff := cmp.Diff(c.want, strings.Split(strings.TrimSuffix(out, "\n"), "\n")); code != 0 || diff != "" {
				t.Errorf("exit %d\n%s", code, diff)
			}
		})
	}
}

func TestExitCode(t *testing.T) {
	r := newRunner(t, "INPUT_BINARY="+program(t), "RECORDER_EXIT=3")
	if _, code := r.run(t); code != 3 {
		t.Errorf("exit %d, want 3", code)
	}
	if text, err := os.ReadFile(r.output); err != nil || !strings.Contains(string(text), "exit_code=3\n") {
		t.Errorf("outputs %q, %v", text, err)
	}
}

func TestBadInputs(t *testing.T) {
	for env, want := range map[string]string{
		"INPUT_PROXY_MODE=off":        `proxy_mode is "off"`,
		"INPUT_FAIL_ON_BLOCKED=":      `FAIL_ON_BLOCKED is ""`,
		"INPUT_SUMMARY=perhaps":       `SUMMARY is "perhaps"`,
		"INPUT_WRITE=buildcage.yaml":  "write is for audits",
		"INPUT_PROXY_MODE=a\n::x::b":  "a%0A::x::b",
		"INPUT_CONTEXT=a\nb":          `CONTEXT is "a%0Ab"`,
		"INPUT_SARIF=a\rb":            `SARIF is "a%0Db"`,
		"INPUT_BINARY=a\nexit_code=0": `BINARY is "a%0Aexit_code=0"`,
		"INPUT_VERSION=v1.2.3\nx":     `VERSION is "v1.2.3%0Ax"`,
	} {
		out, code := newRunner(t, "INPUT_BINARY="+program(t), env).run(t)
		if code != 2 || !strings.HasPrefix(out, "::error title=buildcage::") || strings.Count(out, "\n") != 1 || !strings.Contains(out, want) {
			t.Errorf("%q: exit %d, %q", env, code, out)
		}
	}
}

// release serves an archive with the recorder in it, and a list of checksums.
func release(t *testing.T, sums func(sum string) string) (url, sum string) {
	t.Helper()
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	w := tar.NewWriter(z)
	if err := errors.Join(w.WriteHeader(&tar.Header{Name: "buildcage", Mode: 0o755, Size: int64(len(recorder))})); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(recorder)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(buf.Bytes())
	sum = hex.EncodeToString(digest[:])
	mux := http.NewServeMux()
	mux.HandleFunc("/v1.2.3/buildcage_1.2.3_linux_amd64.tar.gz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(buf.Bytes()) })
	mux.HandleFunc("/v1.2.3/SHA256SUMS", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(sums(sum))) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL, sum
}

func TestInstall(t *testing.T) {
	listed := func(sum string) string { return "0000  other\n" + sum + "  buildcage_1.2.3_linux_amd64.tar.gz\n" }
	wrong := func(string) string { return strings.Repeat("0", 64) + "  buildcage_1.2.3_linux_amd64.tar.gz\n" }
	none := func(string) string { return "" }
	for name, c := range map[string]struct {
		sums func(string) string
		env  []string
		own  bool // the right checksum is given
		want string
	}{
		"by the release's list": {sums: listed},
		"by a given checksum":   {sums: wrong, own: true},
		"another archive":       {sums: wrong, want: "has the checksum"},
		"not listed":            {sums: none, want: "has the checksum"},
		"another checksum":      {sums: listed, env: []string{"INPUT_CHECKSUM=00"}, want: "has the checksum"},
		"no such release":       {sums: listed, env: []string{"INPUT_VERSION=v9.9.9"}, want: "could not be fetched"},
		"a branch":              {sums: listed, env: []string{"INPUT_VERSION=main"}, want: "which is no release"},
		"a path":                {sums: listed, env: []string{"INPUT_VERSION=v1.2.3/../x"}, want: "which is no release"},
		"another machine":       {sums: listed, env: []string{"RUNNER_ARCH=ARM"}, want: "no buildcage for ARM"},
	} {
		t.Run(name, func(t *testing.T) {
			url, sum := release(t, c.sums)
			r := newRunner(t, append([]string{"RELEASES=" + url, "INPUT_VERSION=v1.2.3"}, c.env...)...)
			if c.own {
				r.env = append(r.env, "INPUT_CHECKSUM="+sum)
			}
			out, code := r.run(t)
			if c.want == "" && (code != 0 || !strings.HasPrefix(out, "build\n")) {
				t.Errorf("exit %d, %q", code, out)
			}
			if c.want != "" && (code == 0 || !strings.Contains(out, c.want) || strings.Contains(out, "build\n")) {
				t.Errorf("exit %d, %q", code, out)
			}
		})
	}
}

// TestEveryInputIsPassed keeps action.yml and the script in step, and inputs out of shell text.
func TestEveryInputIsPassed(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(root, "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var action struct {
		Inputs map[string]struct{ Default *string }
		Runs   struct {
			Using string
			Steps []struct {
				Run string
				Env map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(data, &action); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile(filepath.Join(root, "scripts", "action"))
	if err != nil {
		t.Fatal(err)
	}
	step := action.Runs.Steps[0]
	if action.Runs.Using != "composite" || strings.Contains(step.Run, "${{") {
		t.Errorf("%s: %s", action.Runs.Using, step.Run)
	}
	for name, input := range action.Inputs {
		variable := "INPUT_" + strings.ToUpper(name)
		if !strings.Contains(step.Env[variable], "inputs."+name) {
			t.Errorf("%s is %q", variable, step.Env[variable])
		}
		if !strings.Contains(string(script), variable) && !strings.Contains(string(script), "$(flag "+strings.ToUpper(name)+")") {
			t.Errorf("the script does not read %s", variable)
		}
		if input.Default == nil {
			t.Errorf("%s has no default", name)
		}
	}
	for _, name := range []string{"proxy_mode", "allowed_https_rules", "allowed_http_rules", "allowed_ip_rules", "known_blocked_rules", "fail_on_blocked"} {
		if _, ok := action.Inputs[name]; !ok {
			t.Errorf("there is no input %s", name)
		}
	}
}
