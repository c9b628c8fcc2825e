package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// steps is a real build with two package managers and a test that needs no
// network. What the test runs comes from a file, as in a real project: its
// command stays the same when its dependencies go bad.
func steps(t *testing.T) (files map[string]string, args []string) {
	return map[string]string{
		"Dockerfile": `FROM buildcage-demo:base AS tools
RUN apt-get update && \
    apt-get install -y --no-install-recommends jq

FROM buildcage-demo:node AS deps
WORKDIR /app
ARG NPM_CONFIG_REGISTRY
COPY package.json .
RUN npm install --no-audit --no-fund

FROM deps AS test
COPY test.js .
RUN node test.js

FROM buildcage-demo:base
COPY --from=tools /usr/bin/jq /usr/bin/jq
COPY --from=test /app /app
RUN <<EOF
cat /app/package.json
# printf '%s\n' */
EOF
`,
		"package.json": `{"name":"t","version":"1.0.0","private":true,"dependencies":{"is-odd":"3.0.1"}}`,
		"test.js":      `console.log(require("is-odd")(3))`,
	}, []string{"--output", "type=cacheonly", "--build-arg", "NPM_CONFIG_REGISTRY=" + client(t, "npm", "config", "get", "registry")}
}

// TestPerStep: rules per step out of an audit let the same build through, and
// refuse the test what the install may do.
func TestPerStep(t *testing.T) {
	engine(t)
	files, args := steps(t)
	dir := project(t, files)
	audit := run(t, dir, append(append([]string{"audit", "--write", "buildcage.yaml", "--per-step"}, args...), ".")...).want(t, 0)
	want := map[string]int{"apt-get": 2, "npm": 9, "node": 13, "cat": 18}
	for _, s := range audit.report.Steps {
		if word := strings.Fields(s.Command)[0]; s.Line != want[word] {
			t.Errorf("%q of stage %q has line %d, want %d", s.Command, s.Stage, s.Line, want[word])
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "buildcage.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "- run: "); n != 2 || !strings.Contains(string(text), "# Dockerfile:9") {
		t.Errorf("%d entries, want one for apt-get and one for npm:\n%s", n, text)
	}
	build := append(append([]string{"build", "--no-cache"}, args...), ".")
	clean := run(t, dir, build...).want(t, 0)
	if n := len(clean.report.hosts("blocked")); n > 0 {
		t.Errorf("%d destinations refused under the generated file", n)
	}

	hosts := clean.report.hosts("allowed")
	registry := hostOf(client(t, "npm", "config", "get", "registry"))
	if !hosts[registry] {
		t.Fatalf("the install reached %v, not %s", hosts, registry)
	}
	phone := fmt.Sprintf(`require("https").get("https://%s/").on("error", () => {})`, registry)
	if err := os.WriteFile(filepath.Join(dir, "test.js"), []byte(phone), 0o644); err != nil {
		t.Fatal(err)
	}
	red := run(t, dir, build...).want(t, 3)
	if b := red.report.hosts("blocked"); !b[registry] || len(b) != 1 {
		t.Errorf("blocked %v, want %s from the test only", b, registry)
	}
	if !strings.Contains(red.stderr, "RUN node test.js (Dockerfile:13") {
		t.Errorf("the report does not name the step:\n%s", tail(red.stderr))
	}
	flag := run(t, dir, append(append([]string{"build", "--no-cache", "--allow-https", registry}, args...), ".")...).want(t, 0)
	if !flag.report.hosts("allowed")[registry] {
		t.Error("the flag allowed nothing")
	}
}

// hostOf is host:port of a URL.
func hostOf(url string) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
	if !strings.Contains(host, ":") {
		host += ":443"
	}
	return host
}

// TestEntryLearns: what a step with an entry of its own lacks goes into the
// entry, in the report and in the file, because the top level does not help it.
func TestEntryLearns(t *testing.T) {
	engine(t)
	dir := project(t, map[string]string{
		"Dockerfile": `FROM buildcage-demo:base
RUN bash -c 'exec 3<>/dev/tcp/own.example.com/5432' || true
RUN bash -c 'exec 3<>/dev/tcp/top.example.com/5432' || true
`,
		"buildcage.yaml": `version: 1
steps:
  - run: "*own.example.com*"
    allowed_https_rules: [pypi.org]
# the end
`,
	})
	args := []string{"--output", "type=cacheonly", "."}
	red := run(t, dir, append([]string{"build", "--no-cache"}, args...)...).want(t, 3)
	if !strings.Contains(red.stderr, "steps[0] at buildcage.yaml:3:5:\n    allowed_tcp_rules:\n      - own.example.com:5432\n") {
		t.Errorf("the report does not say where the rule goes:\n%s", tail(red.stderr))
	}
	run(t, dir, append([]string{"audit", "--write", "buildcage.yaml"}, args...)...).want(t, 0)
	run(t, dir, append([]string{"build", "--no-cache"}, args...)...).want(t, 0)
	text, err := os.ReadFile(filepath.Join(dir, "buildcage.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	want := `version: 1
steps:
  - run: "*own.example.com*"
    allowed_https_rules: [pypi.org]
    allowed_tcp_rules:
      - own.example.com:5432
# the end
allowed_tcp_rules:
  - top.example.com:5432
`
	if string(text) != want {
		t.Errorf("the file is\n%s\nwant\n%s", text, want)
	}
}

// TestLinesOfTwins: the same command in two stages at the same time, each with
// its own line.
func TestLinesOfTwins(t *testing.T) {
	engine(t)
	dir := project(t, map[string]string{"docker/Build": `FROM buildcage-demo:base AS one
ENV WHO=one
RUN for i in 1 2 3; do bash -c "exec 3<>/dev/tcp/$WHO$i.example.com/443"; done || true

FROM buildcage-demo:base AS two
ENV WHO=two
WORKDIR /
RUN for i in 1 2 3; do bash -c "exec 3<>/dev/tcp/$WHO$i.example.com/443"; done || true

FROM buildcage-demo:base
COPY --from=one /etc/passwd /a
COPY --from=two /etc/passwd /b
`})
	lines := map[string]int{"one": 3, "two": 8}
	r := run(t, dir, "build", "--no-cache", "--output", "type=cacheonly", "-f", filepath.Join("docker", "Build"), ".").want(t, 3)
	at := make(map[string]int)
	for _, s := range r.report.Steps {
		at[s.ID] = s.Line
	}
	seen := 0
	for _, d := range r.report.Destinations {
		if d.Verdict != "blocked" {
			continue
		}
		seen++
		for _, id := range d.Steps {
			if who := d.Host[:3]; at[id] != lines[who] {
				t.Errorf("%s is from line %d, want %d", d.Host, at[id], lines[who])
			}
		}
	}
	if seen != 6 {
		t.Errorf("%d destinations, want 6", seen)
	}
	for _, want := range []string{"docker/Build:3, stage one", "docker/Build:8, stage two"} {
		if !strings.Contains(r.stderr, want) {
			t.Errorf("the report does not say %q:\n%s", want, tail(r.stderr))
		}
	}
}
