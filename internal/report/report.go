// Package report turns the record of a run into something to read. It is pure:
// Build sums records up into a Report, and each format renders a Report. It
// judges nothing again; what the cage recorded is what is said.
//
// The records hold text of the hostile side. Build cleans it, every format
// makes it inert for where it goes, and the full value stays in the JSON.
package report

import (
	"time"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Schema names the JSON form of a Report. It only grows.
const Schema = "buildcage.report/v1"

// Outcome is a run in one word.
type Outcome string

const (
	Clean       Outcome = "clean"
	Refused     Outcome = "blocked"      // the build succeeded, but something was refused
	BuildFailed Outcome = "build-failed" // whatever was refused
	Incomplete  Outcome = "incomplete"   // the record can't be relied on
	Interrupted Outcome = "interrupted"
)

// Exit codes of the program for an Outcome; BuildFailed has the build's own.
const (
	exitOK          = 0
	exitBuildFailed = 1
	exitBlocked     = 3
	exitCage        = 125
	exitInterrupted = 130
)

// Input is what a Report is made of.
type Input struct {
	Records  []event.Record
	Complete bool   // the records decoded up to the end record and nothing failed
	Problem  string // one line: why not complete

	// Policy says where suggested rules belong; nil: at the top level.
	Policy *policy.Policy
	// Dockerfile is its path as a repository knows it, with slashes; empty where
	// it is no file.
	Dockerfile string
	// File and Lines say where in which Dockerfile the steps are, by id, for
	// those whose records don't.
	File  string
	Lines map[string]int

	Mode        string // empty: what the start record says
	BuildExit   int    // the build's exit code
	Interrupted bool
	Config      string // path of the policy file, empty without one
	Started     time.Time
	Duration    time.Duration
}

// Report is one run. Its JSON form is published in docs/schema.
type Report struct {
	Schema       string            `json:"schema"`
	RunID        string            `json:"run_id,omitempty"`
	Mode         string            `json:"mode"`
	Outcome      Outcome           `json:"outcome"`
	Complete     bool              `json:"complete"`
	Problem      string            `json:"problem,omitempty"`
	BuildExit    int               `json:"build_exit"`
	Started      time.Time         `json:"started"`
	DurationMS   int64             `json:"duration_ms"`
	Config       string            `json:"config,omitempty"`
	Dockerfile   string            `json:"dockerfile,omitempty"` // path, where there is one
	PolicyDigest string            `json:"policy_digest,omitempty"`
	Versions     map[string]string `json:"versions,omitempty"`

	Steps        []Step        `json:"steps"`
	Destinations []Destination `json:"destinations"`
	Uploads      []Upload      `json:"uploads"`
	Drops        []Drop        `json:"drops"`
	DNSOnly      []Question    `json:"dns_only"`          // asked for, never connected to; the first dnsOnlyLimit
	DNSRefused   []Question    `json:"dns_refused"`       // got no proper answer
	Resolvers    []Resolver    `json:"foreign_resolvers"` // asked instead of the cage's, which answered
	Sources      []Source      `json:"sources"`
	Suggested    Suggested     `json:"suggested_rules"`
	Totals       Totals        `json:"totals"`
}

// Step is one RUN step, in the order of the record.
type Step struct {
	ID      string `json:"id"`
	Name    string `json:"name,omitempty"`
	Command string `json:"command"`
	Stage   string `json:"stage"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line"` // 0: unknown
	Cached  bool   `json:"cached"`
	// Evidence is how a cached step was judged; nil: it ran, or nothing is known.
	Evidence   *Evidence `json:"evidence,omitempty"`
	Exit       *int      `json:"exit"` // null: cached, or the record has no end of it
	Network    string    `json:"network,omitempty"`
	Secrets    []string  `json:"secrets,omitempty"`
	DurationMS int64     `json:"duration_ms,omitempty"`
}

// Evidence is today's policy's verdict on what a cached step did when it ran.
type Evidence struct {
	Verdict  event.EvidenceVerdict `json:"verdict"` // missing, clean or violates
	Observed *time.Time            `json:"observed,omitempty"`
	Doubt    string                `json:"doubt,omitempty"`
}

// Destination sums up the connections that were decided alike: same host,
// port, protocol, verdict, reason and rule.
type Destination struct {
	Host        string        `json:"host"` // judged name, else the name behind the address, else the address
	Port        uint16        `json:"port"`
	Protocol    string        `json:"protocol"` // tls, http, tcp, ip; empty: unclassified
	Verdict     event.Verdict `json:"verdict"`
	Reason      event.Reason  `json:"reason"`
	Rule        string        `json:"rule"`
	RulePos     string        `json:"rule_pos,omitempty"`
	Expected    bool          `json:"expected"` // refused, but that fails nothing
	Connections int64         `json:"connections"`
	Up          int64         `json:"bytes_up"`
	Down        int64         `json:"bytes_down"`
	Steps       []string      `json:"steps"`
	Processes   []string      `json:"processes"`
	NameRaw     []string      `json:"name_raw,omitempty"` // other spellings, escaped
	Orig        []string      `json:"orig,omitempty"`     // raw addresses that the client dialled
	Dialled     []string      `json:"dialled,omitempty"`  // addresses that the proxy dialled
	Resolved    []string      `json:"resolved,omitempty"` // what the name resolved to, when that was refused
	Detail      []string      `json:"detail,omitempty"`
	Flags       []string      `json:"flags,omitempty"`
	Period
}

// Drop sums up refused traffic that is not TCP.
type Drop struct {
	Protocol string   `json:"protocol"`
	Address  string   `json:"address"`
	Port     uint16   `json:"port"` // 0 where there is none
	Name     string   `json:"name,omitempty"`
	Count    int64    `json:"count"`
	Expected bool     `json:"expected"` // kernel noise, see Noise
	Steps    []string `json:"steps"`
	Period
}

// Question sums up the questions for one name.
type Question struct {
	Name   string       `json:"name"`
	Types  []string     `json:"types"`
	Reason event.Reason `json:"reason,omitempty"`
	Count  int64        `json:"count"`
	Steps  []string     `json:"steps"`
	Period
}

// Resolver is an address that a step sent its questions to.
type Resolver struct {
	Address string   `json:"address"`
	Count   int64    `json:"count"`
	Steps   []string `json:"steps"`
}

// Source is something that the builder itself fetched or sent.
type Source struct {
	Ref   string   `json:"ref"`
	Host  string   `json:"host"`
	Hosts []string `json:"hosts,omitempty"` // all that it took, host:port, where that is exact
	Up    int64    `json:"bytes_up"`
	Down  int64    `json:"bytes_down"`
	Count int64    `json:"count"`
}

// Period is when something was seen first and last.
type Period struct {
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
}

// Totals count everything, also what a list leaves out.
type Totals struct {
	Steps        int   `json:"steps"`
	Cached       int   `json:"cached"`
	Destinations int   `json:"destinations"`
	Connections  int64 `json:"connections"`
	Allowed      int64 `json:"allowed"`
	Audited      int64 `json:"audited"`
	Blocked      int64 `json:"blocked"`  // connections, expected ones included
	Expected     int64 `json:"expected"` // connections and packets whose refusal fails nothing
	Failed       int64 `json:"failed"`
	Drops        int64 `json:"drops"` // packets, expected ones included
	Lost         int64 `json:"lost"`  // packets that may be missing in drops
	DNS          int64 `json:"dns"`   // questions
	DNSOnly      int   `json:"dns_only"`
	DNSRefused   int64 `json:"dns_refused"` // questions
	Refusals     int64 `json:"refusals"`    // all that makes the outcome "blocked"
	Up           int64 `json:"bytes_up"`
	Down         int64 `json:"bytes_down"`
}

// ExitCode is the program's exit code for r. With failOnBlocked unset, refusals
// alone don't fail.
func (r *Report) ExitCode(failOnBlocked bool) int {
	switch r.Outcome {
	case Clean:
		return exitOK
	case Refused:
		if failOnBlocked {
			return exitBlocked
		}
		return exitOK
	case BuildFailed:
		if r.BuildExit > 0 {
			return r.BuildExit
		}
		return exitBuildFailed
	case Interrupted:
		return exitInterrupted
	}
	return exitCage
}

// outcome: whoever interrupts wants to hear just that; a record that can't be
// relied on is worth more than what it says; the build's failure more than refusals.
func (r *Report) outcome(in Input) Outcome {
	switch {
	case in.Interrupted:
		return Interrupted
	case !r.Complete:
		return Incomplete
	case in.BuildExit != 0:
		return BuildFailed
	case r.Totals.Refusals > 0:
		return Refused
	}
	return Clean
}
