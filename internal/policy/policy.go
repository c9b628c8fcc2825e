// Package policy is the allowlist: it parses rules, compiles a Spec and judges
// destinations. It is pure, shared by the host and the cage, and the only
// matcher there is.
package policy

import "net/netip"

// Protocol is what the proxy found a connection to speak.
type Protocol string

const (
	TLS  Protocol = "tls"
	HTTP Protocol = "http"
	TCP  Protocol = "tcp" // by name, any protocol
	IP   Protocol = "ip"  // raw address, any protocol
)

// Step is what a rule of steps: can select by. The zero value is an unknown step.
type Step struct {
	Builder bool // the builder's own traffic
	Command string
	Stage   string
	Line    int // first Dockerfile line, 0: unknown
	Secrets bool
}

// Target is one destination to judge. Name is set for tls, http and tcp, in
// canonical form (see CanonicalName); Addr for ip.
type Target struct {
	Protocol Protocol
	Name     string
	Addr     netip.Addr
	Port     uint16
}

// Decision is the answer to a Target.
type Decision struct {
	// Allowed is what happens. In audit it is true where restrict would refuse for want of a rule.
	Allowed bool
	// Audited is true when only the audit mode let it through.
	Audited bool
	// Expected is true for a refusal that a known_blocked rule names.
	Expected bool
	// Rule is the text of the deciding rule, Pos where it stands; empty without one.
	Rule string
	Pos  string
	// Reason is empty when allowed by a rule, else "not-allowed" or "ip-not-allowed".
	Reason string
}

// Policy is a compiled Spec. It is immutable and safe for concurrent use.
type Policy struct{ spec Spec }

// Scope is what one step (or the builder) may do under a Policy.
type Scope struct{ policy *Policy }
