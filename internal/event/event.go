// Package event is the record of a cage: one JSON line per event, numbered
// without gaps, from a start record to an end record. Both sides share it; the
// schema only grows. Everything that came from the wire is stored escaped.
package event

import (
	"net/netip"
	"time"
)

// Version of the schema; the start record carries it.
const Version = 1

// MaxRecord is the longest encoded record in bytes, line feed included. Long
// values are cut, never the decision, and the record is marked truncated.
const MaxRecord = 4096

// Kind of a record.
type Kind string

const (
	KindStart  Kind = "start"
	KindStep   Kind = "step"
	KindDNS    Kind = "dns"
	KindConn   Kind = "conn"
	KindDrop   Kind = "drop"
	KindSource Kind = "source"
	KindEnd    Kind = "end"
)

// Record is one event. Exactly the field that Kind names is set.
type Record struct {
	Seq       uint64    `json:"seq"` // from 1, no gaps
	Time      time.Time `json:"ts"`
	Kind      Kind      `json:"kind"`
	Truncated bool      `json:"truncated,omitempty"`
	Start     *Start    `json:"start,omitempty"`
	Step      *Step     `json:"step,omitempty"`
	DNS       *DNS      `json:"dns,omitempty"`
	Conn      *Conn     `json:"conn,omitempty"`
	Drop      *Drop     `json:"drop,omitempty"`
	Source    *Source   `json:"source,omitempty"`
	End       *End      `json:"end,omitempty"`
}

// Start opens the record.
type Start struct {
	Version      int               `json:"version"`
	RunID        string            `json:"run_id"`
	Mode         string            `json:"mode"`
	PolicyDigest string            `json:"policy_digest"`
	Versions     map[string]string `json:"versions,omitempty"` // caged, buildkit, runc, cni
}

// BuilderStep is the id of the pseudo-step for the builder's own traffic.
const BuilderStep = "builder"

// Step says that a step began (Exit nil) or ended (Exit set); same ID.
type Step struct {
	ID      string       `json:"id"`
	Build   string       `json:"build,omitempty"`
	Vertex  string       `json:"vertex,omitempty"` // digest
	Name    string       `json:"name,omitempty"`   // BuildKit's vertex name, "[deps 3/5] RUN npm ci"
	Command string       `json:"command"`          // without the shell
	Stage   string       `json:"stage,omitempty"`
	File    string       `json:"file,omitempty"`
	Line    int          `json:"line,omitempty"`
	Secrets []string     `json:"secrets,omitempty"` // mount targets of secrets and ssh
	Network string       `json:"network,omitempty"` // "none" when the step has none
	Addrs   []netip.Addr `json:"addrs,omitempty"`
	Cached  bool         `json:"cached,omitempty"`
	// Evidence, of a cached step: what is known of when it ran. What it did then
	// follows as records of this step, judged anew; connections have the flag "cached".
	Evidence *Evidence     `json:"evidence,omitempty"`
	Exit     *int          `json:"exit,omitempty"`
	Took     time.Duration `json:"took_ns,omitempty"`
}

// Evidence is how a cached step was judged without running.
type Evidence struct {
	Verdict EvidenceVerdict `json:"verdict"`
	At      time.Time       `json:"at,omitzero"` // when it ran last, under observation
	// PolicyDigest is that of the policy it ran under.
	PolicyDigest string `json:"policy_digest,omitempty"`
	Runs         int    `json:"runs,omitempty"` // that it may be the result of
	Doubt        string `json:"doubt,omitempty"`
}

// EvidenceVerdict is what today's policy makes of a cached step.
type EvidenceVerdict string

const (
	EvidenceMissing  EvidenceVerdict = "missing"  // it was never observed, or not all of it
	EvidenceClean    EvidenceVerdict = "clean"    // all that it did would be allowed, or is expected
	EvidenceViolates EvidenceVerdict = "violates" // it did what would be refused
)

// DNS is a question that the nameserver answered.
type DNS struct {
	Step    string     `json:"step"`
	Name    string     `json:"name"`             // canonical; escaped when not a host name
	Type    string     `json:"type"`             // A, AAAA, PTR, …
	Reason  Reason     `json:"reason,omitempty"` // why there was no proper answer: dns-refused, proxy-overload, invalid-request
	Answer  netip.Addr `json:"answer,omitzero"`
	Foreign netip.Addr `json:"foreign,omitzero"` // the resolver that the step asked, when it was not ours
	Fold
}

// Verdict on a connection or request.
type Verdict string

const (
	Allowed Verdict = "allowed"
	Audited Verdict = "audited"
	Blocked Verdict = "blocked"
	Failed  Verdict = "failed" // allowed, but the origin did not answer
)

// Conn is one connection, or one HTTP request.
type Conn struct {
	Step     string         `json:"step"`
	Process  *Process       `json:"process,omitempty"`
	Protocol string         `json:"protocol"` // tls, http, tcp, ip; "" when unclassified
	Name     string         `json:"name,omitempty"`
	RawName  string         `json:"raw_name,omitempty"`  // escaped, when it differed from Name
	Orig     netip.AddrPort `json:"orig,omitzero"`       // destination as the client dialled it
	OrigName string         `json:"orig_name,omitempty"` // the name behind a fake Orig address
	Dialled  netip.AddrPort `json:"dialled,omitzero"`
	Resolved netip.Addr     `json:"resolved,omitzero"` // what the name resolved to, when the guard refused that
	Port     uint16         `json:"port"`
	Method   string         `json:"method,omitempty"`
	Path     string         `json:"path,omitempty"`
	Request  int            `json:"request,omitempty"` // number on its connection, from 1
	Verdict  Verdict        `json:"verdict"`
	Reason   Reason         `json:"reason,omitempty"`
	Detail   string         `json:"detail,omitempty"` // one escaped line more
	Rule     string         `json:"rule,omitempty"`
	RulePos  string         `json:"rule_pos,omitempty"`
	Expected bool           `json:"expected,omitempty"` // refused by a known_blocked rule
	Flags    []string       `json:"flags,omitempty"`    // ech, rerouted, websocket, private, upstream-proxy, h2c, cached, asked
	Up       int64          `json:"bytes_up,omitempty"`
	Down     int64          `json:"bytes_down,omitempty"`
	Took     time.Duration  `json:"took_ns,omitempty"`
	Fold
}

// Process that opened a connection, and its ancestors up to the RUN shell.
type Process struct {
	PID   int      `json:"pid,omitempty"`
	Exe   string   `json:"exe,omitempty"`
	Args  []string `json:"args,omitempty"`
	Chain []string `json:"chain,omitempty"` // from the RUN shell down
	Gone  bool     `json:"gone,omitempty"`
	Note  string   `json:"note,omitempty"` // why this is no more, or not certain
}

// Drop is traffic that is not TCP and was refused by the firewall.
type Drop struct {
	Step     string         `json:"step"`
	Protocol string         `json:"protocol"` // udp, icmp, icmpv6, sctp, gre, …; "proto-N"
	Dest     netip.AddrPort `json:"dest"`     // port 0 where there is none
	Name     string         `json:"name,omitempty"`
	Fold
}

// Noise says that a kernel sends such a packet of its own accord when a link
// comes up, whatever the step does: router and neighbour discovery and
// multicast reports, to groups that never leave a link. It is refused like
// anything else, but it fails no build.
func (d *Drop) Noise() bool {
	a := d.Dest.Addr().Unmap()
	return d.Protocol == "icmpv6" && a.Is6() && a.IsLinkLocalMulticast() ||
		d.Protocol == "igmp" && a == netip.AddrFrom4([4]byte{224, 0, 0, 22})
}

// Source is something that the builder itself fetched or sent.
type Source struct {
	Ref  string `json:"ref"` // "FROM node:22", "ADD https://…"
	Host string `json:"host,omitempty"`
	// Down and Up are what was moved for it; 0 where that can't be told apart from something else.
	Down int64 `json:"bytes_down,omitempty"`
	Up   int64 `json:"bytes_up,omitempty"`
	// Hosts are all that it took, host:port, where that is exact.
	Hosts []string `json:"hosts,omitempty"`
}

// Fold counts repeats of one record. Count 0 means 1. A record with Count > 1
// stands for Count further repeats seen between First and Last.
type Fold struct {
	Count int64     `json:"count,omitempty"`
	First time.Time `json:"first,omitzero"`
	Last  time.Time `json:"last,omitzero"`
}

// End closes the record. A record without it is incomplete.
type End struct {
	Records uint64 `json:"records"` // this one included
	Conns   int64  `json:"conns"`
	Allowed int64  `json:"allowed"`
	Audited int64  `json:"audited"`
	Blocked int64  `json:"blocked"`
	Failed  int64  `json:"failed"`
	Drops   int64  `json:"drops"`
	DNS     int64  `json:"dns"`
	Up      int64  `json:"bytes_up"`
	Down    int64  `json:"bytes_down"`
	Reason  string `json:"reason,omitempty"` // "sealed", "stopped", "client-gone", "failed: …"
	// Lost counts packets that the kernel could not hand to the logger, or did not for their number; the counts of drops and questions are then a lower bound.
	Lost int64 `json:"lost,omitempty"`
}
