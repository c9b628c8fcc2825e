// Package policy is the allowlist: it parses rules, compiles a Spec and judges
// destinations. It is pure, shared by the host and the cage, and the only
// matcher there is.
//
// The rules of the package: nothing that does not parse is ever dropped, a
// destination that no rule names is refused, and doubt about a step makes its
// scope narrower, never wider.
package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
)

// Protocol is what the proxy found a connection to speak.
type Protocol string

const (
	TLS  Protocol = "tls"
	HTTP Protocol = "http"
	TCP  Protocol = "tcp" // by name, any protocol
	IP   Protocol = "ip"  // raw address, any protocol
)

// Policy is a compiled Spec. It is immutable and safe for concurrent use.
type Policy struct {
	spec    Spec
	top     *section
	builder *section // nil: not restricted
	steps   []*entry
	blocked *index
	private []*Rule
	digest  string
}

// Mode is restrict or audit.
func (p *Policy) Mode() Mode { return p.spec.Mode }

// Digest names the policy: a hash over its canonical rules, without positions.
// Two files that differ in layout, comments or spelling only have the same.
func (p *Policy) Digest() string { return p.digest }

// ECHAllowed reports whether an encrypted ClientHello may pass in restrict.
func (p *Policy) ECHAllowed() bool { return p.spec.ECH == echAllow }

// PrivateAllowed reports whether allow_private covers an address. It says
// nothing about other guarded addresses, which nothing opens.
func (p *Policy) PrivateAllowed(a netip.Addr) bool {
	a = a.Unmap()
	for _, r := range p.private {
		if r.net.Contains(a) {
			return true
		}
	}
	return false
}

// Asks says that the policy selects steps by more than their command: by what
// is known of them only once their build has told.
func (p *Policy) Asks() bool {
	return slices.ContainsFunc(p.spec.Steps, func(s StepSpec) bool { return s.Stage != "" || s.Lines != "" || s.Secrets != nil })
}

// EntryPos is where an entry of steps: stands, empty where that is not known.
func (p *Policy) EntryPos(i int) string {
	if i < 0 || i >= len(p.steps) {
		return ""
	}
	return p.steps[i].spec.Pos
}

// canonical is a section as hashed: canonical rule texts in their order.
type canonical struct {
	HTTPS, HTTP, TCP, IP []string `json:",omitempty"`
}

type canonicalStep struct {
	Run, Stage, Lines, Network string
	Secrets                    *bool
	MaxUpload                  int64
	Rules                      canonical
}

func (p *Policy) hash() (string, error) {
	doc := struct {
		Mode             Mode
		ECH              string
		Rules            canonical
		Blocked, Private []string
		Steps            []canonicalStep
		Builder          *canonical
	}{Mode: p.spec.Mode, ECH: p.spec.ECH, Rules: p.top.canonical(),
		Blocked: ruleTexts(p.blocked.rules), Private: ruleTexts(p.private)}
	for _, e := range p.steps {
		s := e.spec
		doc.Steps = append(doc.Steps, canonicalStep{
			s.Run, s.Stage, e.lines.String(), s.Network, s.Secrets, s.MaxUpload, e.rules.canonical()})
	}
	if p.builder != nil {
		c := p.builder.canonical()
		doc.Builder = &c
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return "", fmt.Errorf("hashing the policy: %w", err)
	}
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:]), nil
}

func (s *section) canonical() canonical {
	return canonical{
		HTTPS: ruleTexts(s.lists[HTTPSRules].rules), HTTP: ruleTexts(s.lists[HTTPRules].rules),
		TCP: ruleTexts(s.lists[TCPRules].rules), IP: ruleTexts(s.lists[IPRules].rules),
	}
}

func ruleTexts(rules []*Rule) []string {
	var texts []string
	for _, r := range rules {
		texts = append(texts, r.String())
	}
	return texts
}
