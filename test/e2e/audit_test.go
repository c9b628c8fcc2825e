package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
)

// audited runs an audit and returns the allowlist that it writes and the steps
// that the cache answered.
func audited(t *testing.T, dir string, args ...string) (allowlist string, cached []*event.Step, said string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "learned.yaml")
	r, records := recorded(t, dir, append([]string{"audit", "--write", file}, args...)...)
	r.want(t, 0)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(r.stderr))
	}
	for _, rec := range records {
		if rec.Step != nil && rec.Step.Cached {
			cached = append(cached, rec.Step)
		}
	}
	return string(text), cached, r.stderr
}

// withoutComments is what a policy file says.
func withoutComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if code, _, _ := strings.Cut(line, "#"); strings.TrimSpace(code) != "" {
			b.WriteString(strings.TrimRight(code, " \n") + "\n")
		}
	}
	return b.String()
}

// A second audit takes the step from the cache and lists the same. What the
// cache can't tell is looked at again: evidence that somebody damaged, and a
// step that was refused something when it ran.
func TestAuditOfCachedSteps(t *testing.T) {
	o := startOrigin(t)
	args := o.args(apart(t)...)
	host := fmt.Sprintf("h%d.example.com", time.Now().UnixNano())
	dir := project(t, map[string]string{"Dockerfile": "FROM buildcage-demo:base\nRUN " + fetch(host) + "\n"})
	first, cached, _ := audited(t, dir, args...)
	if len(cached) != 0 || !strings.Contains(first, host) || !strings.Contains(first, o.address) {
		t.Fatalf("cached %v, allowlist:\n%s", cached, first)
	}
	second, cached, said := audited(t, dir, args...)
	if len(cached) != 1 || cached[0].Evidence == nil || cached[0].Evidence.Verdict != event.EvidenceClean || strings.Contains(said, "building again") {
		t.Errorf("the second audit did not take the step from the cache\n%s", tail(said))
	}
	if d := cmp.Diff(withoutComments(first), withoutComments(second)); d != "" {
		t.Errorf("allowlist of the second audit (-first +second):\n%s", d)
	}
	damageEvidence(t, host)
	third, cached, said := audited(t, dir, args...)
	if len(cached) != 0 || !strings.Contains(said, "building again") {
		t.Errorf("without evidence the step is cached: %v\n%s", cached, tail(said))
	}
	if d := cmp.Diff(withoutComments(first), withoutComments(third)); d != "" {
		t.Errorf("allowlist of the third audit (-first +third):\n%s", d)
	}
}

// What a build refused is not all that a step wants: the audit runs it again.
func TestAuditAfterRefusal(t *testing.T) {
	o := startOrigin(t)
	args := o.args(apart(t)...)
	host := fmt.Sprintf("h%d.example.com", time.Now().UnixNano())
	dir := project(t, map[string]string{"Dockerfile": "FROM buildcage-demo:base\nRUN " + fetch(host) + "\n"})
	r, _ := recorded(t, dir, append([]string{"build"}, args...)...)
	r.want(t, 3)
	if list, cached, said := audited(t, dir, args...); len(cached) != 0 || !strings.Contains(list, host) {
		t.Errorf("cached %v, allowlist:\n%s\n%s", cached, list, tail(said))
	}
	if list, cached, said := audited(t, dir, args...); len(cached) != 1 || !strings.Contains(list, host) {
		t.Errorf("after an audit: cached %v, allowlist:\n%s\n%s", cached, list, tail(said))
	}
}

// damageEvidence overwrites what the state volumes keep about a host.
func damageEvidence(t *testing.T, host string) {
	t.Helper()
	found := 0
	for volume := range strings.FieldsSeq(docker(t, "volume", "ls", "-q", "--filter", "name="+prefix())) {
		script := "for f in $(grep -ls " + host + " /state/" + contract.EvidenceDir + "/*); do echo damaged >$f; echo $f; done"
		out := docker(t, "run", "--rm", "--network", "none", "-v", volume+":/state", "buildcage-demo:base", "bash", "-c", script)
		found += len(strings.Fields(out))
	}
	if found == 0 {
		t.Fatalf("no volume has evidence of %s", host)
	}
}
