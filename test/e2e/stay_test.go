package e2e

import (
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// line is what "ls --json" says of the cage.
type line struct {
	Name  string
	State string
	Since time.Time `json:"up_since"`
}

// until asks for the cage until it is as wanted.
func (c *raised) until(t *testing.T, wanted func(line) bool) line {
	t.Helper()
	var last line
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		var list []line
		if err := json.Unmarshal([]byte(run(t, ".", "ls", "--json").want(t, 0).stdout), &list); err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			if l.Name == c.name {
				last = l
			}
		}
		if wanted(last) {
			return last
		}
	}
	t.Fatalf("the cage is %+v", last)
	return last
}

// A cage that dies is started again by its engine, with its policy, from the
// file that its volume has.
func TestUpComesBack(t *testing.T) {
	c := raise(t, allow("good.example.com"))
	before := c.until(t, func(l line) bool { return l.State == "running" })
	pid, err := strconv.Atoi(docker(t, "inspect", "-f", "{{.State.Pid}}", "buildcage-"+c.name))
	if err != nil {
		t.Fatal(err)
	}
	process, err := os.FindProcess(pid)
	if err == nil {
		err = process.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.until(t, func(l line) bool { return l.State == "running" && l.Since.After(before.Since) })
	dir := c.project(t, "", asks("good.example.com", "evil.example.com"))
	out, code := buildx(t, dir, "build", "--builder", c.name, "--progress", "plain", "--output", "type=cacheonly", ".")
	if code != 0 || !strings.Contains(out, "evil.example.com: 403") || strings.Contains(out, "good.example.com: 403") {
		t.Errorf("exit %d\n%s", code, tail(out))
	}
}

// A cage in which nobody builds ends, its engine does not start it again, and
// up does.
func TestUpIdle(t *testing.T) {
	c := raise(t, "version: 1\n", "--idle", "1s")
	c.until(t, func(l line) bool { return l.State == "idle" })
	if out := run(t, ".", "prune", "--dry-run").want(t, 0).stdout; !strings.Contains(out, "would remove cage "+c.name) {
		t.Errorf("prune --dry-run:\n%s", out)
	}
	if r := run(t, ".", "build", "--cage", c.name, "."); r.code != 2 && !strings.Contains(r.stderr, "does not run") {
		t.Errorf("a build in it: exit %d\n%s", r.code, r.stderr)
	}
	run(t, t.TempDir(), "up", "--name", c.name, "--cage-resolver", nobody).want(t, 0)
	c.until(t, func(l line) bool { return l.State == "running" })
}
