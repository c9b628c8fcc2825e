package explain

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/policy"
)

// Protocols, as a person calls them.
const (
	HTTPS = "https"
	HTTP  = "http"
	TCP   = "tcp"
	IP    = "ip"
)

// Target is a destination as a person gives it.
type Target struct {
	Protocol string
	Assumed  bool // the protocol was not given
	Name     string
	Addr     netip.Addr
	Port     uint16
}

func (t Target) String() string { return t.judged()[0].String() }

// judged are the targets that the proxy asks the policy about, in its order.
func (t Target) judged() []policy.Target {
	switch {
	case t.Addr.IsValid():
		return []policy.Target{{Protocol: policy.IP, Addr: t.Addr, Port: t.Port}}
	case t.Protocol == HTTPS:
		return []policy.Target{{Protocol: policy.TCP, Name: t.Name, Port: t.Port}, {Protocol: policy.TLS, Name: t.Name, Port: t.Port}}
	case t.Protocol == HTTP:
		return []policy.Target{{Protocol: policy.TCP, Name: t.Name, Port: t.Port}, {Protocol: policy.HTTP, Name: t.Name, Port: t.Port}}
	}
	return []policy.Target{{Protocol: policy.TCP, Name: t.Name, Port: t.Port}}
}

// Error is a destination that can't be asked about.
type Error struct{ msg, hint string }

func (e *Error) Error() string { return e.msg }
func (e *Error) Hint() string  { return e.hint }

// Parse reads HOST[:PORT] or ADDRESS:PORT; a URL's scheme counts as the
// protocol, its path does not. protocol may be empty.
func Parse(text, protocol string) (Target, error) {
	const hint = "write HOST:PORT, ADDRESS:PORT or [V6]:PORT"
	rest := text
	if scheme, after, ok := strings.Cut(text, "://"); ok {
		if protocol == "" {
			protocol = strings.ToLower(scheme)
		}
		rest, _, _ = strings.Cut(after, "/")
	}
	switch protocol {
	case "", HTTPS, HTTP, TCP, IP:
	default:
		return Target{}, &Error{"unknown protocol " + strconv.Quote(protocol), "the protocols are https, http, tcp and ip"}
	}
	t := Target{Protocol: protocol}
	host, port, err := split(rest)
	if err != "" {
		return t, &Error{strconv.Quote(text) + ": " + err, hint}
	}
	if addr, err := netip.ParseAddr(host); err == nil && addr.Zone() == "" {
		t.Addr = addr.Unmap()
	} else if name, ok := policy.CanonicalName(host); ok {
		t.Name = name
	} else {
		return t, &Error{strconv.Quote(host) + " is neither a host name nor an address", hint + "; names outside ASCII in punycode"}
	}
	return t, t.complete(port)
}

// complete fills in what was left out.
func (t *Target) complete(port string) error {
	switch {
	case t.Addr.IsValid() && t.Protocol != "" && t.Protocol != IP:
		return &Error{"an address is judged by IP rules, whatever is spoken", "leave --protocol out"}
	case t.Addr.IsValid():
		t.Protocol = IP
	case t.Protocol == IP:
		return &Error{strconv.Quote(t.Name) + " is not an address", "give the address, or another --protocol"}
	case t.Protocol == "":
		t.Protocol, t.Assumed = HTTPS, true
		if port == "80" {
			t.Protocol = HTTP
		}
	}
	if port == "" {
		switch t.Protocol {
		case HTTPS:
			port = "443"
		case HTTP:
			port = "80"
		default:
			return &Error{"no port", "add the port, for example " + hostOf(*t) + ":22"}
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return &Error{"port " + strconv.Quote(port) + " is not a number from 1 to 65535", "write HOST:PORT"}
	}
	t.Port = uint16(n)
	return nil
}

func hostOf(t Target) string {
	if t.Addr.Is6() {
		return "[" + t.Addr.String() + "]"
	}
	if t.Addr.IsValid() {
		return t.Addr.String()
	}
	return t.Name
}

// split takes the port off.
func split(s string) (host, port, fault string) {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		host, port, ok = strings.Cut(inner, "]")
		if !ok {
			return "", "", "no closing bracket"
		}
		if port != "" && port[0] != ':' {
			return "", "", "no port behind the bracket"
		}
		return host, strings.TrimPrefix(port, ":"), ""
	}
	if strings.Count(s, ":") > 1 {
		return "", "", "v6 addresses stand in brackets"
	}
	host, port, ok := strings.Cut(s, ":")
	if ok && port == "" {
		return "", "", "empty port"
	}
	return host, port, ""
}
