package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// ecosystem is one package manager's real build.
type ecosystem struct {
	name  string
	files func(t *testing.T) map[string]string
	args  func(t *testing.T) []string
	run   []string // what the finished image prints
	want  string
}

func ecosystems() []ecosystem {
	return []ecosystem{
		{
			name: "apt",
			files: func(*testing.T) map[string]string {
				return map[string]string{"Dockerfile": `FROM buildcage-demo:base
RUN apt-get update && apt-get install -y --no-install-recommends jq
`}
			},
			run: []string{"jq", "-n", "1+1"}, want: "2",
		},
		{
			name: "npm",
			files: func(*testing.T) map[string]string {
				return map[string]string{
					"Dockerfile": `FROM buildcage-demo:node
WORKDIR /app
ARG NPM_CONFIG_REGISTRY
COPY package.json .
RUN npm install --no-audit --no-fund
RUN node -e 'console.log(require("is-odd")(3))'
`,
					"package.json": `{"name":"t","version":"1.0.0","private":true,"dependencies":{"is-odd":"3.0.1"}}`,
				}
			},
			args: func(t *testing.T) []string {
				return []string{"--build-arg", "NPM_CONFIG_REGISTRY=" + client(t, "npm", "config", "get", "registry")}
			},
			run: []string{"node", "-e", `console.log(require("/app/node_modules/is-odd")(3))`}, want: "true",
		},
		{
			name: "go",
			files: func(*testing.T) map[string]string {
				return map[string]string{
					"Dockerfile": `FROM buildcage-demo:go AS build
WORKDIR /src
ARG GOPROXY
ENV GONOSUMDB=* GOFLAGS=-mod=mod GOTOOLCHAIN=local
COPY go.mod main.go ./
RUN go build -o /hello .
FROM scratch
COPY --from=build /hello /hello
ENTRYPOINT ["/hello"]
`,
					"go.mod":  "module example.com/hello\n\ngo 1.21\n\nrequire github.com/google/uuid v1.6.0\n",
					"main.go": "package main\n\nimport (\n\t\"fmt\"\n\n\t\"github.com/google/uuid\"\n)\n\nfunc main() { fmt.Println(len(uuid.NewString())) }\n",
				}
			},
			args: func(t *testing.T) []string {
				return []string{"--build-arg", "GOPROXY=" + client(t, "go", "env", "GOPROXY")}
			},
			run: nil, want: "36",
		},
	}
}

// TestAuditLearnsWhatBuildEnforces is the main job: audit a real build, build
// with the generated file unedited, and see the build refused when one of its
// hosts is taken out.
func TestAuditLearnsWhatBuildEnforces(t *testing.T) {
	for _, e := range ecosystems() {
		t.Run(e.name, func(t *testing.T) {
			engine(t)
			dir := project(t, e.files(t))
			tag := "buildcage-e2e:" + e.name
			t.Cleanup(func() { docker(t, "rmi", "-f", tag) })
			args := []string{"-t", tag}
			if e.args != nil {
				args = append(args, e.args(t)...)
			}
			audit := run(t, dir, append(append([]string{"audit", "--write", "buildcage.yaml"}, args...), ".")...).want(t, 0)
			seen := audit.report.hosts("audited")
			if len(seen) == 0 || !audit.report.Complete {
				t.Fatalf("audit saw nothing: %+v", audit.report)
			}
			again := run(t, dir, append(append([]string{"audit"}, args...), ".")...).want(t, 0)
			for h := range seen {
				// A rule of the written file now allows what the first audit let through.
				if !again.report.hosts("allowed")[h] && !again.report.hosts("audited")[h] {
					t.Errorf("a second audit, on a warm cache, did not list %s", h)
				}
			}
			built := run(t, dir, append(append([]string{"build", "--no-cache"}, args...), ".")...).want(t, 0)
			if n := len(built.report.hosts("blocked")); n > 0 {
				t.Errorf("%d destinations refused under the generated file", n)
			}
			if out := docker(t, append([]string{"run", "--rm", "--network", "none", tag}, e.run...)...); out != e.want {
				t.Errorf("the image prints %q, want %q", out, e.want)
			}
			without(t, dir, args)
		})
	}
}

// without takes the first rule out of the generated file and expects a refusal
// that names the host and the line to add.
func without(t *testing.T, dir string, args []string) {
	t.Helper()
	path := filepath.Join(dir, "buildcage.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rule := regexp.MustCompile(`(?m)^\s*- "?([a-z0-9.-]+:\d+)"?.*\n`)
	m := rule.FindSubmatch(text)
	if m == nil {
		t.Fatalf("no rule in the generated file:\n%s", text)
	}
	host := string(m[1])
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), string(m[0]), "", 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	r := run(t, dir, append(append([]string{"build", "--no-cache"}, args...), ".")...)
	if r.code != 3 && r.code != 1 {
		t.Fatalf("exit %d without %s\n%s", r.code, host, tail(r.stderr))
	}
	if !r.report.hosts("blocked")[host] {
		t.Errorf("the report does not list %s as blocked", host)
	}
	if !strings.Contains(r.stderr, host) || !strings.Contains(r.stderr, "--allow-http") && !strings.Contains(r.stderr, "allowed_http") {
		t.Errorf("the text report does not say how to allow %s:\n%s", host, tail(r.stderr))
	}
}

// TestHostileExample proves that every way out is refused and listed.
func TestHostileExample(t *testing.T) {
	engine(t)
	dir := filepath.Join(repo, "examples", "hostile")
	r := run(t, dir, "build", "--no-cache", "-t", "buildcage-e2e:hostile", ".")
	t.Cleanup(func() { docker(t, "rmi", "-f", "buildcage-e2e:hostile") })
	r.want(t, 3)
	blocked := r.report.hosts("blocked")
	for _, want := range []string{"exfil.example:443", "192.0.2.10:443", "2001:db8::1:443"} {
		if !blocked[want] && !blocked[strings.Replace(want, "2001:db8::1", "[2001:db8::1]", 1)] {
			t.Errorf("not listed as blocked: %s in %v", want, blocked)
		}
	}
	if !hasDrop(r.report, "udp", "192.0.2.53", 9999) {
		t.Errorf("the UDP packet is not listed: %+v", r.report.Drops)
	}
	var leak bool
	for _, d := range r.report.DNSOnly {
		leak = leak || strings.HasSuffix(d.Name, ".leak.example")
	}
	if !leak {
		t.Errorf("the name that carried the secret is not listed: %+v", r.report.DNSOnly)
	}
	for _, d := range r.report.Destinations {
		if d.Verdict == "blocked" && d.BytesDown > 0 && d.Protocol != "http" {
			t.Errorf("%s:%d answered %d bytes to a refused client", d.Host, d.Port, d.BytesDown)
		}
	}
}

func hasDrop(r report, protocol, address string, port int) bool {
	for _, d := range r.Drops {
		if d.Protocol == protocol && d.Address == address && d.Port == port {
			return true
		}
	}
	return false
}

// TestTwoBuildsDoNotSeeEachOther runs an audit and a restricted build at once.
func TestTwoBuildsDoNotSeeEachOther(t *testing.T) {
	engine(t)
	dockerfile := func(name string) map[string]string {
		return map[string]string{"Dockerfile": fmt.Sprintf(`FROM buildcage-demo:base
RUN for i in 1 2 3; do (echo > /dev/tcp/%s/443) 2>/dev/null || true; done
SHELL ["/bin/bash", "-c"]
RUN for i in 1 2 3; do (echo > /dev/tcp/%s/443) 2>/dev/null || true; done
`, name, name), "buildcage.yaml": "version: 1\n"}
	}
	a, b := project(t, dockerfile("audited.example.com")), project(t, dockerfile("refused.example.com"))
	other := make(chan result, 1)
	go func() { other <- run(t, a, "audit", "--output", "type=cacheonly", ".") }()
	restrict := run(t, b, "build", "--no-cache", "--output", "type=cacheonly", ".").want(t, 3)
	audit := <-other
	if audit.code == 3 || !audit.report.Complete {
		t.Errorf("audit ended with %d\n%s", audit.code, tail(audit.stderr))
	}
	for _, d := range restrict.report.Destinations {
		if d.Host == "audited.example.com" || d.Verdict == "audited" {
			t.Errorf("the restricted build's report holds %+v", d)
		}
	}
	for _, d := range audit.report.Destinations {
		if d.Host == "refused.example.com" || d.Reason == "not-allowed" {
			t.Errorf("the audit's report holds %+v", d)
		}
	}
}
