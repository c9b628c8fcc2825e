package policy

// List names a rule list by its key in the configuration file. It decides
// which grammar its rules have and which port they default to.
type List string

const (
	HTTPSRules   List = "allowed_https_rules"
	HTTPRules    List = "allowed_http_rules"
	TCPRules     List = "allowed_tcp_rules"
	IPRules      List = "allowed_ip_rules"
	BlockedRules List = "known_blocked_rules"
	PrivateRules List = "allow_private"
)

// AllowLists returns the four lists of a section in the order of the documentation.
func AllowLists() []List { return []List{HTTPSRules, HTTPRules, TCPRules, IPRules} }

// Flag is the command line flag that adds to the list, empty where there is none.
func (l List) Flag() string {
	switch l {
	case HTTPSRules:
		return "--allow-https"
	case HTTPRules:
		return "--allow-http"
	case TCPRules:
		return "--allow-tcp"
	case IPRules:
		return "--allow-ip"
	case BlockedRules:
		return "--known-blocked"
	}
	return ""
}

// defaultPort is the port specification of a rule that names none; empty
// where the port is mandatory.
func (l List) defaultPort() string {
	switch l {
	case HTTPSRules:
		return "443"
	case HTTPRules:
		return "80"
	case BlockedRules:
		return "*"
	}
	return ""
}

// listOf is the list whose rules judge a protocol.
func listOf(p Protocol) (List, bool) {
	switch p {
	case TLS:
		return HTTPSRules, true
	case HTTP:
		return HTTPRules, true
	case TCP:
		return TCPRules, true
	case IP:
		return IPRules, true
	}
	return "", false
}
