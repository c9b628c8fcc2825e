package check

import (
	"regexp"
	"strings"

	"golang.org/x/net/publicsuffix"

	"github.com/buildcage/buildcage/internal/policy"
)

// breadth is one way in which a rule is wider than most people mean.
type breadth struct{ code, message, hint string }

const (
	nameHint = "name the domains that the build needs"
	portHint = "name the ports that the build needs"
)

// breadthOf tells in what ways a rule is too wide.
func breadthOf(r *policy.Rule) []breadth {
	var found []breadth
	switch {
	case r.Regex() != "":
		return regexBreadth(r)
	case r.HostPattern() != "":
		if b, ok := hostBreadth(r.HostPattern()); ok {
			found = append(found, b)
		}
	case r.Network().IsValid() && r.Network().Bits() < smallest(r):
		found = append(found, breadth{"large-network", "allows a very large network", "name the networks that the build needs"})
	}
	if r.EveryPort() {
		found = append(found, breadth{"every-port", "allows every port", portHint})
	}
	return found
}

func smallest(r *policy.Rule) int {
	if r.Network().Addr().Is6() {
		return 32
	}
	return 8
}

// hostBreadth looks at what stands fixed behind the last wildcard of a
// pattern. Where that is a suffix under which the public registers names, a
// stranger's name fits too.
func hostBreadth(pattern string) (breadth, bool) {
	if !strings.ContainsAny(pattern, "*?") {
		return breadth{}, false
	}
	labels := strings.Split(pattern, ".")
	at := len(labels)
	for at > 0 && !strings.ContainsAny(labels[at-1], "*?") {
		at--
	}
	fixed := strings.Join(labels[at:], ".")
	if fixed == "" {
		if labels[len(labels)-1] == "**" || strings.Trim(pattern, "*?.") == "" {
			return breadth{"every-name", "allows every name", nameHint}, true
		}
		return breadth{"public-suffix", "leaves the top-level domain open", nameHint}, true
	}
	suffix, icann := publicsuffix.PublicSuffix(fixed)
	switch {
	case suffix != fixed:
		return breadth{}, false
	case icann || !strings.Contains(fixed, "."):
		return breadth{"public-suffix", "anybody can register a name below " + fixed + " that fits", nameHint}, true
	}
	return breadth{"shared-suffix", fixed + " is shared: its customers choose names below it", "name the hosts that the build needs, or accept it under check:"}, true
}

// strangers are names that no sensible rule means, by what they show.
func strangers() map[string]string {
	return map[string]string{
		"zqxw.com": "public-suffix", "zqxw.net": "public-suffix", "zqxw.org": "public-suffix", "zqxw.io": "public-suffix",
		"zqxw.dev": "public-suffix", "zqxw.co.uk": "public-suffix", "a.zqxw.com": "public-suffix", "a.zqxw.net": "public-suffix",
		"zqxw.invalid": "every-name", "zqxw": "every-name",
	}
}

// regexBreadth tries a regex with strangers' names, because its text says
// little about what it matches.
func regexBreadth(r *policy.Rule) []breadth {
	worst := ""
	for name, code := range strangers() {
		for _, port := range []uint16{443, 80, 22, 8443} {
			if r.Match(policy.Target{Protocol: policy.TLS, Name: name, Port: port}) && worst != "every-name" {
				worst = code
			}
		}
	}
	switch worst {
	case "every-name":
		return []breadth{{"every-name", "allows every name", nameHint}}
	case "public-suffix":
		return []breadth{{"public-suffix", "allows names that anybody can register", nameHint}}
	}
	if regexp.MustCompile(`^(\.[*+]\??|\(\.[*+]\??\))[A-Za-z0-9]`).MatchString(r.Regex()) {
		return []breadth{{"regex-prefix", "the name may begin with anything, also in the middle of a label", `write (.*\.)? in front of the domain`}}
	}
	return nil
}
