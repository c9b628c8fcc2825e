package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestAction runs the GitHub action's script on a made-up runner, with the real
// program: a refused address is an annotation at its line, in the summary and
// in the SARIF file, and the step fails.
func TestAction(t *testing.T) {
	engine(t)
	dir := project(t, map[string]string{
		"Dockerfile": "FROM buildcage-demo:base\nRUN true\nRUN timeout 5 bash -c 'echo > /dev/tcp/192.0.2.1/443' || true\n",
	})
	runner := func(env ...string) (string, int) {
		cmd := exec.CommandContext(t.Context(), "bash", filepath.Join(repo, "scripts", "action"))
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), append([]string{
			"GITHUB_ACTIONS=true", "GITHUB_WORKSPACE=" + dir, "GITHUB_OUTPUT=" + filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY=" + filepath.Join(dir, "summary"),
			"INPUT_BINARY=" + binary, "INPUT_CONTEXT=.", "INPUT_ARGS=--no-cache\n--output=type=cacheonly\n--cage-prefix=" + prefix(), "INPUT_FAIL_ON_BLOCKED=true", "INPUT_SUMMARY=true", "INPUT_ANNOTATIONS=true",
			"INPUT_SARIF=" + filepath.Join(dir, "report.sarif"),
		}, env...)...)
		out, _ := cmd.CombinedOutput()
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := runner("INPUT_PROXY_MODE=restrict")
	if code != 3 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if !strings.Contains(out, "\n::error ") || !strings.Contains(out, "file=Dockerfile,line=3") || !strings.Contains(out, "192.0.2.1") {
		t.Errorf("no annotation at line 3:\n%s", tail(out))
	}
	for file, want := range map[string]string{"summary": "192.0.2.1", "output": "exit_code=3\n"} {
		if text, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("%s: %v\n%s", file, err, text)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "report.sarif"))
	if err != nil || !json.Valid(text) || !strings.Contains(string(text), `"startLine": 3`) {
		t.Errorf("report.sarif: %v\n%s", err, text)
	}
	if out, code := runner("INPUT_PROXY_MODE=restrict", "INPUT_FAIL_ON_BLOCKED=false"); code != 0 {
		t.Errorf("exit %d, want 0 with fail_on_blocked: false\n%s", code, tail(out))
	}
}
