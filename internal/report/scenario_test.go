package report

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

var epoch = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// scenario is a run as a cage would have recorded it.
type scenario struct {
	input   Input
	records []event.Record
	cut     bool // lose the end of the record
}

func (s scenario) run(t testing.TB) *Report {
	t.Helper()
	return Build(s.build(t))
}

// build sends the records through the codec, as a real run does.
func (s scenario) build(t testing.TB) Input {
	t.Helper()
	mode := s.input.Mode
	start := event.Record{Start: &event.Start{Version: event.Version, RunID: "2026-0304-1", Mode: mode, PolicyDigest: "sha256:5a1e", Versions: map[string]string{"caged": "(devel)", "cli": "v1.2.3", "buildkit": "v0.33.1"}}}
	records := append([]event.Record{start}, s.records...)
	records = append(records, event.Record{End: &event.End{Reason: "sealed"}})
	var b bytes.Buffer
	now := epoch
	enc := event.NewEncoder(&b, func() time.Time { now = now.Add(250 * time.Millisecond); return now })
	for _, r := range records {
		if err := enc.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	data := b.Bytes()
	if s.cut {
		data = data[:len(data)-40]
	}
	in := s.input
	var err error
	in.Records, err = event.ReadAll(bytes.NewReader(data))
	in.Complete = err == nil
	if err != nil {
		in.Problem = err.Error()
		if !errors.Is(err, event.ErrIncomplete) {
			t.Fatal(err)
		}
	}
	in.Started, in.Duration = epoch, 48_300*time.Millisecond
	return in
}

func exit(n int) *int { return &n }

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func step(id, command, stage string, line int) event.Record {
	return event.Record{Step: &event.Step{ID: id, Name: "RUN " + command, Command: event.Escape(command), Stage: stage, File: "Dockerfile", Line: line}}
}

func ended(id string, code int) event.Record {
	return event.Record{Step: &event.Step{ID: id, Exit: exit(code), Took: 2 * time.Second}}
}

func asked(step, name string, types ...string) []event.Record {
	var records []event.Record
	for _, typ := range types {
		records = append(records, event.Record{DNS: &event.DNS{Step: step, Name: name, Type: typ, Answer: netip.MustParseAddr("198.18.0.9")}})
	}
	return records
}

func tls(step, name string, verdict event.Verdict, up, down int64) event.Record {
	c := &event.Conn{
		Step: step, Protocol: "tls", Name: name, OrigName: name, Orig: at("198.18.0.9:443"), Port: 443, Verdict: verdict, Up: up, Down: down,
		Process: &event.Process{Exe: "/usr/local/bin/node", Chain: []string{"sh", "npm", "node"}},
	}
	switch verdict {
	case event.Allowed:
		c.Rule, c.RulePos, c.Dialled = name+":443", "buildcage.yaml:4:5", at("203.0.113.9:443")
	case event.Audited:
		c.Dialled = at("203.0.113.9:443")
	case event.Blocked:
		c.Reason = event.NotAllowed
	}
	return event.Record{Conn: c}
}

func http(step, name string, verdict event.Verdict, requests int, down int64) []event.Record {
	var records []event.Record
	for i := range requests {
		c := &event.Conn{
			Step: step, Protocol: "http", Name: name, OrigName: name, Orig: at("198.18.0.10:80"), Dialled: at("203.0.113.10:80"), Port: 80,
			Method: "GET", Path: fmt.Sprintf("/debian/pool/%d.deb", i), Request: i + 1, Verdict: verdict, Up: 210, Down: down,
			Process: &event.Process{Exe: "/usr/lib/apt/methods/http"},
		}
		if verdict == event.Allowed {
			c.Rule = name + ":80"
		}
		records = append(records, event.Record{Conn: c})
	}
	return records
}

// withEntries is a policy in which npm has an entry of its own.
func withEntries() *policy.Policy {
	p, err := policy.Compile(policy.Spec{Steps: []policy.StepSpec{
		{Pos: "buildcage.yaml:5:5", Run: "true", Network: "none"},
		{Pos: "buildcage.yaml:7:5", Run: "npm *", Rules: policy.RuleTexts{HTTPS: []policy.Text{{Text: "registry.example.com"}}}},
	}})
	if err != nil {
		return nil
	}
	return p
}

func join(parts ...any) []event.Record {
	var records []event.Record
	for _, p := range parts {
		switch p := p.(type) {
		case event.Record:
			records = append(records, p)
		case []event.Record:
			records = append(records, p...)
		}
	}
	return records
}

var noise = event.Record{Drop: &event.Drop{Step: "s1", Protocol: "icmpv6", Dest: at("[ff02::2]:0"), Fold: event.Fold{Count: 3}}}

// scenarios are the runs that the goldens show.
func scenarios() map[string]scenario {
	restrict := Input{Mode: "restrict", Config: "buildcage.yaml"}
	entries := restrict
	entries.Policy = withEntries()
	failed := restrict
	failed.BuildExit = 1
	apt, npm := step("s1", "apt-get update && apt-get install -y curl", "", 3), step("s2", "npm ci", "deps", 12)
	hostile := join(step("s1", "npm ci", "deps", 12), noise,
		asked("s1", "registry.example.com", "A", "AAAA"), tls("s1", "registry.example.com", event.Allowed, 5120, 18<<20),
		asked("s1", "collector.example.net", "A"), tls("s1", "collector.example.net", event.Blocked, 0, 0), tls("s1", "collector.example.net", event.Blocked, 0, 0),
		event.Record{Conn: &event.Conn{Step: "s1", Protocol: "ip", Orig: at("192.0.2.10:443"), Port: 443, Verdict: event.Blocked, Reason: event.IPNotAllowed, Process: &event.Process{Exe: "/usr/local/bin/node"}}},
		event.Record{Conn: &event.Conn{Step: "s1", Protocol: "tls", Name: "telemetry.example.com", Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed, Rule: "telemetry.example.com", Expected: true}},
		event.Record{Drop: &event.Drop{Step: "s1", Protocol: "udp", Dest: at("192.0.2.10:5353"), Fold: event.Fold{Count: 4}}},
		event.Record{DNS: &event.DNS{Step: "s1", Name: "probe.example.org", Type: "A", Foreign: netip.MustParseAddr("192.0.2.53")}},
	)
	for i := range 12 {
		hostile = append(hostile, asked("s1", fmt.Sprintf("%040x.%d.exfil.example", i*7919, i), "A")...)
	}
	hostile = join(hostile, ended("s1", 0))
	over := tls("s2", "publish.example.com", event.Blocked, 1<<20, 0) // that much went on before the rest was refused
	over.Conn.Reason = event.UploadBudget
	evil := "\x1b[2J\x1b]8;;x\a\r\n✓ ok \u202e::error::x ##[error]pwn ##vso[x]\x9b1m"
	return map[string]scenario{
		"example": example(),
		"clean": {input: restrict, records: join(apt, noise, asked("s1", "deb.example.org", "A", "AAAA"), http("s1", "deb.example.org", event.Allowed, 14, 1<<20),
			asked("s1", "_http._tcp.deb.example.org", "SRV"), ended("s1", 0), npm, asked("s2", "registry.example.com", "A"), tls("s2", "registry.example.com", event.Allowed, 90_000, 41<<20), ended("s2", 0),
			event.Record{Step: &event.Step{ID: "s3", Command: "go build ./...", Stage: "build", Line: 20, Cached: true, Evidence: &event.Evidence{Verdict: event.EvidenceClean, At: epoch.Add(-30 * time.Hour), PolicyDigest: "sha256:5a1e", Runs: 1}}},
			event.Record{Source: &event.Source{Ref: "FROM node:22", Host: "registry-1.docker.io", Down: 50 << 20}})},
		"uploads": {input: restrict, records: join(npm,
			tls("s2", "registry.example.com", event.Allowed, 70_000, 41<<20), // requests
			tls("s2", "files.example.com", event.Allowed, 3<<20, 9000), tls("s2", "files.example.com", event.Allowed, 1<<20, 1000),
			tls("s2", "backup.example.com", event.Allowed, 12<<20, 80<<20), tls("s2", "short.example.com", event.Allowed, 64<<10-1, 0),
			tls("s2", "collector.example.net", event.Blocked, 20<<20, 0), over, ended("s2", 0),
			step("s3", "make publish", "publish", 20), tls("s3", "files.example.com", event.Allowed, 64<<10, 64<<10-1), ended("s3", 0))},
		"entries": {input: entries, records: join(npm, tls("s2", "collector.example.net", event.Blocked, 0, 0), ended("s2", 0),
			step("s3", "make", "", 20), tls("s3", "pypi.org", event.Blocked, 0, 0), ended("s3", 0),
			event.Record{Conn: &event.Conn{Step: "s1", Protocol: "tls", Name: "nobody.example.com", Port: 443, Verdict: event.Blocked, Reason: event.NotAllowed}})},
		"quiet": {input: restrict, records: join(step("s1", "make", "", 2), ended("s1", 0))},
		"audit": {input: Input{Mode: "audit"}, records: join(apt, asked("s1", "deb.example.org", "A"), http("s1", "deb.example.org", event.Audited, 9, 2<<20), ended("s1", 0),
			npm, tls("s2", "registry.example.com", event.Audited, 70_000, 41<<20), tls("s2", "pypi.org", event.Allowed, 900, 1<<20),
			event.Record{Conn: &event.Conn{Step: "s2", Protocol: "tcp", Name: "git.example.com", OrigName: "git.example.com", Dialled: at("10.1.2.3:22"), Port: 22, Verdict: event.Audited, Flags: []string{"private"}, Up: 3000, Down: 9000}},
			event.Record{Conn: &event.Conn{Step: "s2", Protocol: "ip", Orig: at("[2001:db8::1]:8443"), Dialled: at("[2001:db8::1]:8443"), Port: 8443, Verdict: event.Audited, Up: 100, Down: 200}}, ended("s2", 0))},
		"hostile":    {input: restrict, records: hostile},
		"incomplete": {input: restrict, records: join(npm, tls("s2", "registry.example.com", event.Allowed, 5120, 18<<20)), cut: true},
		"failed":     {input: failed, records: join(npm, tls("s2", "collector.example.net", event.Blocked, 0, 0), ended("s2", 1))},
		"bytes": {input: restrict, records: join(
			step("s1", "cat <<EOF\n::error::"+evil+"\nEOF", "::error::stage", 4),
			event.Record{Conn: &event.Conn{Step: "s1", Protocol: "tls", Name: event.Escape("::error::" + evil), RawName: event.Escape(evil), Port: 443, Verdict: event.Blocked, Reason: event.InvalidSNI, Detail: event.Escape(evil)}},
			event.Record{Conn: &event.Conn{Step: "s1", Protocol: "http", Name: "a|b`<img>", Port: 80, Verdict: event.Blocked, Reason: event.InvalidHost}},
			event.Record{DNS: &event.DNS{Step: "s1", Name: event.Escape("::add-mask::" + evil), Type: "TXT"}}, ended("s1", 0))},
	}
}
