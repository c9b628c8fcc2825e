package e2e

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// serves proves that the cage is the one that it was: plain buildx and the
// program build in it, under its own policy and under theirs.
func (c *raised) serves(t *testing.T) {
	t.Helper()
	dir := c.project(t, allow("own.example.com"), asks("house.example.com", "own.example.com"))
	out, code := buildx(t, dir, "build", "--builder", c.name, "--no-cache", "--progress", "plain", "--output", "type=cacheonly", ".")
	if code != 0 || !strings.Contains(out, "own.example.com: 403") || strings.Contains(out, "house.example.com: 403") {
		t.Errorf("plain buildx: exit %d\n%s", code, tail(out))
	}
	r := c.build(t, dir)
	if got := r.outcome(); r.code != 3 || !r.report.Complete || got["own.example.com failed"] != 1 || got["house.example.com blocked"] != 1 {
		t.Errorf("the program: exit %d, complete %v, %v\n%s", r.code, r.report.Complete, got, tail(r.stderr))
	}
	if logs := run(t, ".", "logs", c.name).want(t, 0).stdout; !strings.Contains(logs, "blocked step s1 http own.example.com:80 not-allowed") {
		t.Errorf("logs:\n%s", logs)
	}
}

// An engine that is killed, or stopped, and started again starts its cages
// again, with their policy, cache and builder. While it is down everything says
// so, and a build that ran fails with 125; its record is complete only where the
// engine let the cage go in order.
func TestEngineRestart(t *testing.T) {
	e := ownEngine(t)
	c := raise(t, allow("house.example.com"))
	c.serves(t)
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		before := c.until(t, func(l line) bool { return l.State == "running" })
		going := c.begin(t, c.project(t, allow("own.example.com"), asks("-wait", "5m", "house.example.com", "own.example.com")), "house.example.com: 403")
		e.end(t, signal)
		select {
		case r := <-going.done:
			if r.code != 125 || r.report.Complete && signal == syscall.SIGKILL {
				t.Errorf("%v: the build that ran: exit %d, complete %v\n%s", signal, r.code, r.report.Complete, tail(r.stderr))
			}
		case <-time.After(time.Minute):
			t.Fatalf("%v: the build goes on", signal)
		}
		for _, args := range [][]string{{"ls"}, {"logs", c.name}, {"build", "--cage", c.name, "."}, {"prune"}} {
			r := run(t, c.project(t, allow("own.example.com"), asks("own.example.com")), args...)
			if r.code != 125 || strings.Count(r.stderr, "buildcage: error: no Docker engine answers") != 1 || !strings.Contains(r.stderr, "buildcage: hint: ") {
				t.Errorf("%v: %v without the engine: exit %d\n%s", signal, args, r.code, tail(r.stderr))
			}
		}
		if signal == syscall.SIGKILL { // once: buildx tries for twenty seconds
			if out, code := buildx(t, c.project(t, "", asks("x.example.com")), "build", "--builder", c.name, "."); code == 0 {
				t.Errorf("a plain build without the engine went on:\n%s", tail(out))
			}
		}
		e.start(t)
		c.until(t, func(l line) bool { return l.State == "running" && l.Since.After(before.Since) })
		c.serves(t)
	}
}
