package report

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// Suggested are the narrowest rules that would have let through what lacked a
// rule: exactly the hosts and ports that were seen, never a pattern.
type Suggested struct {
	Lists
	AllowPrivate []string `json:"allow_private"`
	Builder      Lists    `json:"builder"` // only when the policy restricts the builder
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
}

// Allowlist returns the suggested rules as the configuration takes them.
func (r *Report) Allowlist() Allowlist {
	a := Allowlist{Rules: r.Suggested.texts(), Builder: r.Suggested.Builder.texts()}
	for _, text := range r.Suggested.AllowPrivate {
		if p, err := netip.ParsePrefix(text); err == nil {
			a.Private = append(a.Private, p)
		}
	}
	return a
}

func (l *Lists) texts() policy.RuleTexts {
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

// target is something that lacked a rule.
type target struct {
	builder bool
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
	t := target{builder: c.Step == event.BuilderStep}
	switch c.Verdict {
	case event.Audited:
		t.rule = ruleFor(c)
		t.private = privateDialled(c)
	case event.Allowed: // by a rule for the name; the address passes in audit only
		if c.Rule != "" {
			t.private = privateDialled(c)
		}
	case event.Failed:
		// Only audit lets through what no rule names. The origin did not answer
		// today; a restricted build must behave like the audited one.
		if c.Rule == "" && !t.builder {
			t.rule = ruleFor(c)
			t.private = privateDialled(c)
		}
	case event.Blocked:
		switch c.Reason {
		case event.NotAllowed, event.IPNotAllowed, event.Unclassified, event.MissingSNI:
			t.rule = ruleFor(c)
		case event.InternalAddress:
			if policy.NewGuard(nil).Check(c.Resolved) == policy.Private {
				t.private = c.Resolved.Unmap()
			}
		}
	}
	if t != (target{builder: t.builder}) {
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

// suggestions turns targets into sorted lists, none of them nil.
func suggestions(targets []target) Suggested {
	s := Suggested{AllowPrivate: []string{}}
	for _, l := range []*Lists{&s.Lists, &s.Builder} {
		*l = Lists{HTTPS: []string{}, HTTP: []string{}, TCP: []string{}, IP: []string{}}
	}
	for _, t := range targets {
		lists := &s.Lists
		if t.builder {
			lists = &s.Builder
		}
		if list := lists.list(key(t.rule)); list != nil {
			_, rule := policy.Suggest(t.rule)
			*list = append(*list, rule)
		}
		if t.private.IsValid() {
			s.AllowPrivate = append(s.AllowPrivate, netip.PrefixFrom(t.private, t.private.BitLen()).String())
		}
	}
	for _, l := range []*Lists{&s.Lists, &s.Builder} {
		for _, key := range policy.AllowLists() {
			tidy(l.list(key))
		}
	}
	tidy(&s.AllowPrivate)
	return s
}

func key(t policy.Target) policy.List {
	list, _ := policy.Suggest(t)
	return list
}

func tidy(list *[]string) {
	slices.SortFunc(*list, strings.Compare)
	*list = slices.Compact(*list)
}
