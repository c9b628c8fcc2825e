package check

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/distribution/reference"

	"github.com/buildcage/buildcage/internal/dockerfile"
	"github.com/buildcage/buildcage/internal/policy"
)

// fetches compares what the builder itself gets with the builder: section, and
// looks at who interprets the Dockerfile.
func (c *checker) fetches(g *dockerfile.Graph) {
	c.frontend()
	scope := c.policy.For(policy.Step{Builder: true})
	if !scope.Restricted() {
		return
	}
	told := map[string]bool{}
	for _, f := range g.Fetches() {
		code := "builder-source"
		var targets []policy.Target
		if f.What == "ADD" {
			code, targets = "builder-add", addTargets(f.Ref)
		} else {
			targets = registry(f.Ref)
		}
		for _, t := range targets {
			if scope.Match(t) != nil || told[t.String()] || tcp(scope, t) {
				continue
			}
			told[t.String()] = true
			list, rule := policy.Suggest(t)
			c.add(code, c.at(f.Line), "", fmt.Sprintf("%s %s: the builder: section does not allow %s", f.What, f.Ref, t),
				fmt.Sprintf("add %s to %s of builder:", rule, list))
		}
	}
}

// tcp reports whether a tcp rule allows it, whatever is spoken.
func tcp(scope *policy.Scope, t policy.Target) bool {
	t.Protocol = policy.TCP
	return scope.Match(t) != nil
}

// frontend warns of a Dockerfile that someone else than BuildKit interprets.
func (c *checker) frontend() {
	ref, line := dockerfile.Syntax(c.in.Dockerfile.Data)
	if ref == "" {
		return
	}
	named, err := reference.ParseNormalizedNamed(ref)
	if err == nil {
		switch named.Name() {
		case "docker.io/docker/dockerfile", "docker.io/docker/dockerfile-upstream":
			return
		}
	}
	scope := c.policy.For(policy.Step{Builder: true})
	if scope.Restricted() {
		allowed := len(registry(ref)) > 0
		for _, t := range registry(ref) {
			allowed = allowed && scope.Match(t) != nil
		}
		if allowed {
			return
		}
	}
	c.add("custom-frontend", c.at(line), "", fmt.Sprintf("the image %q interprets this Dockerfile and decides what runs", ref),
		"use docker/dockerfile, or allow its registry in the builder: section")
}

// registry are the destinations from which an image comes.
func registry(ref string) []policy.Target {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return nil
	}
	host := reference.Domain(named)
	if host == "docker.io" {
		return []policy.Target{tls("registry-1.docker.io", 443), tls("auth.docker.io", 443)}
	}
	name, port, ok := strings.Cut(host, ":")
	if !ok {
		port = "443"
	}
	return target(name, port, policy.TLS)
}

// addTargets are the destinations of an ADD.
func addTargets(src string) []policy.Target {
	if rest, ok := strings.CutPrefix(src, "git@"); ok {
		host, _, _ := strings.Cut(rest, ":")
		return target(host, "22", policy.TCP)
	}
	u, err := url.Parse(src)
	if err != nil {
		return nil
	}
	port := u.Port()
	switch u.Scheme {
	case "http":
		return target(u.Hostname(), orPort(port, "80"), policy.HTTP)
	case "https":
		return target(u.Hostname(), orPort(port, "443"), policy.TLS)
	case "ssh":
		return target(u.Hostname(), orPort(port, "22"), policy.TCP)
	case "git":
		return target(u.Hostname(), orPort(port, "9418"), policy.TCP)
	}
	return nil
}

func orPort(port, otherwise string) string {
	if port == "" {
		return otherwise
	}
	return port
}

func tls(name string, port uint16) policy.Target {
	return policy.Target{Protocol: policy.TLS, Name: name, Port: port}
}

func target(host, port string, p policy.Protocol) []policy.Target {
	name, ok := policy.CanonicalName(host)
	var n uint16
	if _, err := fmt.Sscanf(port, "%d", &n); !ok || err != nil {
		return nil
	}
	return []policy.Target{{Protocol: p, Name: name, Port: n}}
}
