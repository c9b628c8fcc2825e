package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// background is a build of the program that goes on beside others.
type background struct {
	said *bytes.Buffer
	done chan result
}

// begin starts a build in the cage and returns once its log has the text.
func (c *raised) begin(t *testing.T, dir, text string) *background {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.Command(binary, "build", "--cage", c.name, "--no-cache", "--progress", "plain", "--output", "type=cacheonly",
		"--report", "text", "--report", "json="+file, ".")
	cmd.Dir = dir
	pipe, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	b := &background{said: new(bytes.Buffer), done: make(chan result, 1)}
	for buf := make([]byte, 4096); !strings.Contains(b.said.String(), text); {
		n, err := pipe.Read(buf)
		b.said.Write(buf[:n])
		if err != nil {
			t.Fatalf("it ended without %q:\n%s", text, b.said)
		}
	}
	go func() {
		_, _ = io.Copy(b.said, pipe)
		_ = cmd.Wait()
		r := result{code: cmd.ProcessState.ExitCode(), stderr: b.said.String()}
		if data, err := os.ReadFile(file); err == nil {
			_ = json.Unmarshal(data, &r.report) // one that is broken is not complete
		}
		b.done <- r
	}()
	return b
}

// house is what the cage's own record says about hosts, "host verdict" → connections.
func (c *raised) house(t *testing.T) map[string]int {
	t.Helper()
	all := make(map[string]int)
	for line := range strings.Lines(run(t, ".", "logs", "--json", c.name).want(t, 0).stdout) {
		var r struct {
			Conn *struct {
				Name, Verdict string
				Count         int
			}
		}
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if r.Conn != nil {
			all[r.Conn.Name+" "+r.Conn.Verdict] += max(1, r.Conn.Count)
		}
	}
	return all
}

// The policy is changed while a build goes on, and the same project is built
// again, by the program and by plain buildx. Each of the three does what its own
// policy allows to the end, and has that and nothing else in its record.
func TestPolicyChangesDuringBuild(t *testing.T) {
	const times = 10
	c := raise(t, allow("house.example.com"))
	hosts := []string{"old.example.com", "new.example.com", "house.example.com"}
	args := []string{"-wait", "200ms"}
	for range times {
		args = append(args, hosts...)
	}
	dir := c.project(t, allow("old.example.com"), asks(args...))
	first := c.begin(t, dir, "new.example.com: 403")
	if err := os.WriteFile(filepath.Join(dir, "buildcage.yaml"), []byte(allow("new.example.com")), 0o644); err != nil {
		t.Fatal(err)
	}
	second := c.begin(t, dir, "old.example.com: 403")
	out, code := buildx(t, dir, "build", "--builder", c.name, "--no-cache", "--progress", "plain", "--output", "type=cacheonly", ".")
	if code != 0 {
		t.Errorf("plain buildx: exit %d\n%s", code, tail(out))
	}
	check := func(whose, allowed string, got map[string]int) {
		t.Helper()
		for _, h := range hosts {
			verdict, other := "blocked", "failed" // nobody resolves what is allowed
			if h == allowed {
				verdict, other = other, verdict
			}
			if got[h+" "+verdict] != times || got[h+" "+other] != 0 {
				t.Errorf("%s: %s is %s %d times and %s %d times, want %d and 0", whose, h, verdict, got[h+" "+verdict], other, got[h+" "+other], times)
			}
		}
	}
	check("plain buildx", "house.example.com", c.house(t))
	for b, allowed := range map[*background]string{first: "old.example.com", second: "new.example.com"} {
		r := <-b.done
		if r.code != 3 || !r.report.Complete || len(r.report.Steps) != 1 {
			t.Errorf("the build that allows %s: exit %d, complete %v, %d steps\n%s", allowed, r.code, r.report.Complete, len(r.report.Steps), tail(r.stderr))
		}
		check("the build that allows "+allowed, allowed, r.outcome())
	}
}
