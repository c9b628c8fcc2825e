package report

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Suggested are the narrowest rules that would have let through what lacked a
// rule: exactly the hosts and ports that were seen, never a pattern. A step
// that an entry of steps: decides for gets its rules there, because the top
// level plays no part for it.
type Suggested struct {
	Lists
	AllowPrivate []string     `json:"allow_private"`
	Builder      Lists        `json:"builder"` // only when the policy restricts the builder
	Entries      []EntryRules `json:"entries"`
	Steps        []StepRules  `json:"steps"`
}

// EntryRules are rules to add to an entry of steps: that is there.
type EntryRules struct {
	Entry int    `json:"entry"` // from 0
	Pos   string `json:"pos,omitempty"`
	Lists
}

// StepRules are all the rules that steps without an entry need, for an entry of
// their own: what they lacked a rule for and what the top level allowed them.
type StepRules struct {
	Run      string   `json:"run"`   // the selector, escaped
	Steps    []string `json:"steps"` // ids
	Selector string   `json:"-"`     // of the commands, as a policy has it
	Where    []string `json:"-"`     // for a person: "Dockerfile:12, stage deps"
	Lists
}

// Lists are the rule lists of a section, by their keys in the policy file.
type Lists struct {
	HTTPS []string `json:"allowed_https_rules"`
	HTTP  []string `json:"allowed_http_rules"`
	TCP   []string `json:"allowed_tcp_rules"`
	IP    []string `json:"allowed_ip_rules"`
}

// Allowlist is what there is to add to a policy file.
type Allowlist struct {
	Rules   policy.RuleTexts
	Builder policy.RuleTexts
	Private []netip.Prefix
	Entries map[int]policy.RuleTexts // by index in steps:
}

// Allowlist returns the suggested rules as the configuration takes them.
func (r *Report) Allowlist() Allowlist {
	a := Allowlist{Rules: r.Suggested.Texts(), Builder: r.Suggested.Builder.Texts()}
	for _, text := range r.Suggested.AllowPrivate {
		if p, err := netip.ParsePrefix(text); err == nil {
			a.Private = append(a.Private, p)
		}
	}
	for _, e := range r.Suggested.Entries {
		if a.Entries == nil {
			a.Entries = make(map[int]policy.RuleTexts)
		}
		a.Entries[e.Entry] = e.Texts()
	}
	return a
}

// Texts are the lists as a policy has them.
func (l *Lists) Texts() policy.RuleTexts {
	list := func(rules []string) (texts []policy.Text) {
		for _, rule := range rules {
			texts = append(texts, policy.Text{Text: rule})
		}
		return texts
	}
	return policy.RuleTexts{HTTPS: list(l.HTTPS), HTTP: list(l.HTTP), TCP: list(l.TCP), IP: list(l.IP)}
}

// list returns the list with the given key.
func (l *Lists) list(key policy.List) *[]string {
	switch key {
	case policy.HTTPSRules:
		return &l.HTTPS
	case policy.HTTPRules:
		return &l.HTTP
	case policy.TCPRules:
		return &l.TCP
	case policy.IPRules:
		return &l.IP
	}
	return nil
}

// rules is how many rules there are in all lists.
func (l *Lists) rules() int { return len(l.HTTPS) + len(l.HTTP) + len(l.TCP) + len(l.IP) }

// target is something that a step reached or tried to reach.
type target struct {
	step    string
	lacked  bool // a rule
	rule    policy.Target
	private netip.Addr // the address behind the name that needs opening
}

// flagPrivate and flagECH are set by the proxy: the address is private and the
// policy opens it nowhere; the inner name could not be judged.
const (
	flagPrivate = "private"
	flagECH     = "ech"
)

// target notes what would have let c through, if a rule can.
func (s *sums) target(c *event.Conn) {
	if c.Expected {
		return
	}
	t := target{step: c.Step, lacked: true}
	switch c.Verdict {
	case event.Audited:
		t.rule = ruleFor(c)
		t.private = privateDialled(c)
	case event.Allowed:
		t.lacked = false
		if c.Rule != "" { // for the name; the address passes in audit only
			t.rule = ruleFor(c)
			t.private = privateDialled(c)
		}
	case event.Failed:
		// Without a rule only audit lets it through. The origin did not answer
		// today; a restricted build must behave like the audited one.
		t.lacked = c.Rule == "" && c.Step != event.BuilderStep
		t.rule = ruleFor(c)
		if t.lacked {
			t.private = privateDialled(c)
		}
	case event.Blocked:
		switch c.Reason {
		case event.NotAllowed, event.IPNotAllowed:
			t.rule = ruleFor(c)
		case event.Unclassified, event.MissingSNI:
			// Only a tcp rule helps, which lets anything through. A person may
			// decide that; an audit, which refused it too, does not write it.
			if !s.audit {
				t.rule = ruleFor(c)
			}
		case event.InternalAddress:
			if policy.NewGuard(nil).Check(c.Resolved) == policy.Private {
				t.private = c.Resolved.Unmap()
			}
		}
	}
	if !t.lacked && strings.HasPrefix(c.RulePos, "--") {
		t.rule = policy.Target{} // a flag is for one run
	}
	if t.rule != (policy.Target{}) || t.private.IsValid() {
		s.targets.at(t)
	}
}

// privateDialled is the private address behind a name that the policy opens nowhere.
func privateDialled(c *event.Conn) netip.Addr {
	if c.Protocol == string(policy.IP) || !slices.Contains(c.Flags, flagPrivate) {
		return netip.Addr{}
	}
	return c.Dialled.Addr().Unmap()
}

// ruleFor returns what a rule must name to allow c: the judged name; where
// there is none, or it can't be judged, the name or address that was dialled.
func ruleFor(c *event.Conn) policy.Target {
	judged := c.Name != "" && c.Reason != event.Unclassified && !slices.Contains(c.Flags, flagECH)
	switch p := policy.Protocol(c.Protocol); {
	case judged && (p == policy.TLS || p == policy.HTTP || p == policy.TCP):
		return policy.Target{Protocol: p, Name: c.Name, Port: c.Port}
	case c.OrigName != "":
		return policy.Target{Protocol: policy.TCP, Name: c.OrigName, Port: c.Port}
	case policy.NewGuard(nil).Check(c.Orig.Addr()) >= policy.Private:
		return policy.Target{Protocol: policy.IP, Addr: c.Orig.Addr().Unmap(), Port: c.Port}
	}
	return policy.Target{}
}
