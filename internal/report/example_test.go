package report

import (
	"time"

	"github.com/buildcage/buildcage/internal/event"
)

// example is the run that docs/reports.md shows: one step of three met
// something that nobody expected.
func example() scenario {
	ip := event.Record{Conn: &event.Conn{Step: "s2", Protocol: "ip", Orig: at("192.0.2.10:443"), Port: 443, Verdict: event.Blocked, Reason: event.IPNotAllowed,
		Process: &event.Process{Chain: []string{"sh", "npm", "node", "postinstall.js"}}}}
	expected := event.Record{Conn: &event.Conn{Step: "s2", Protocol: "tls", Name: "telemetry.example.com", Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed,
		Rule: "telemetry.example.com", Expected: true}}
	cached := event.Record{Step: &event.Step{ID: "s3", Command: "go build ./...", Stage: "build", File: "Dockerfile", Line: 20, Cached: true,
		Evidence: &event.Evidence{Verdict: event.EvidenceClean, At: epoch.Add(-30 * time.Hour), Runs: 1}}}
	base := event.Record{Source: &event.Source{Ref: "FROM node:22", Host: "registry-1.docker.io", Down: 50 << 20,
		Hosts: []string{"auth.docker.io:443", "registry-1.docker.io:443"}}}
	npm := step("s2", "npm ci --omit=dev", "deps", 12)
	npm.Step.Secrets = []string{"/run/secrets/npm_token"}
	return scenario{
		input: Input{Mode: "restrict", Config: "buildcage.yaml", Dockerfile: "Dockerfile", File: "Dockerfile"},
		records: join(
			step("s1", "apt-get update && apt-get install -y curl", "base", 4),
			asked("s1", "packages.example.com", "A", "AAAA"), http("s1", "packages.example.com", event.Allowed, 14, 1<<20), ended("s1", 0),
			npm,
			asked("s2", "registry.example.com", "A"), tls("s2", "registry.example.com", event.Allowed, 92_000, 41<<20),
			asked("s2", "collector.example.net", "A"), tls("s2", "collector.example.net", event.Blocked, 0, 0), tls("s2", "collector.example.net", event.Blocked, 0, 0),
			ip, expected, asked("s2", "probe.example.org", "A"), ended("s2", 0), cached, base),
	}
}
