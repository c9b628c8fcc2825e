package proxy

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// authority is a host[:port], read strictly.
type authority struct {
	name string     // canonical
	addr netip.Addr // instead of a name
	port string     // as written; hasPort tells an empty one from none
	has  bool
}

// parseAuthority takes a name, a v4 address or a bracketed v6 address, with or
// without a port. Other spellings of addresses are no names either.
func parseAuthority(s string) (a authority, ok bool) {
	host := s
	if strings.HasPrefix(s, "[") {
		inner, rest, closed := strings.Cut(s[1:], "]")
		if !closed || rest != "" && rest[0] != ':' {
			return a, false
		}
		if rest != "" {
			a.port, a.has = rest[1:], true
		}
		addr, err := netip.ParseAddr(inner)
		a.addr = addr.Unmap()
		return a, err == nil && addr.Is6() && addr.Zone() == ""
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		host, a.port, a.has = s[:i], s[i+1:], true
	}
	if strings.IndexByte(a.port, ':') >= 0 || strings.IndexByte(a.port, '@') >= 0 {
		return a, false
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		a.addr = addr
		return a, addr.Is4()
	}
	a.name, ok = policy.CanonicalName(host)
	return a, ok
}

// target finds out what a request is for, and refuses it unless target line,
// Host and connection agree. raw is the name as sent where that differs.
func (c *session) target(h *head) (t policy.Target, raw string, r *refusal) {
	switch {
	case h.hosts == 0 || h.hosts == 1 && h.host == "":
		return t, "", &refusal{reason: event.MissingHost, status: 400, detail: ""}
	case h.hosts > 1:
		return t, h.host, &refusal{reason: event.InvalidHost, status: 400, detail: strconv.Itoa(h.hosts) + " Host fields"}
	}
	host, ok := parseAuthority(h.host)
	if !ok {
		return t, h.host, &refusal{reason: event.InvalidHost, status: 400, detail: ""}
	}
	port := strconv.Itoa(int(c.orig.Port()))
	t = policy.Target{Protocol: policy.HTTP, Name: host.name, Port: c.orig.Port()}
	if host.addr.IsValid() {
		t.Protocol, t.Addr = policy.IP, host.addr
	}
	if h.host != host.name && h.host != host.name+":"+port {
		raw = h.host
	}
	if host.has && host.port != port {
		return t, raw, mismatch("Host names port " + strconv.Quote(host.port))
	}
	if r := absolute(h, host, port); r != nil {
		return t, raw, r
	}
	if t.Protocol == policy.IP {
		return t, raw, c.sameAddr(host.addr)
	}
	return t, raw, nil
}

func mismatch(detail string) *refusal {
	return &refusal{reason: event.AuthorityMismatch, status: 400, detail: detail}
}

// absolute checks a target that is a whole URL against Host and connection.
func absolute(h *head, host authority, port string) *refusal {
	if h.target[0] == '/' || h.target == "*" && h.method == "OPTIONS" {
		return nil
	}
	text, _, ok := splitURL(h.target)
	if !ok {
		return badRequest("target is neither a path nor an http URL")
	}
	a, ok := parseAuthority(text)
	if !ok {
		return &refusal{reason: event.InvalidHost, status: 400, detail: "target names " + text}
	}
	if !a.has {
		a.port = "80"
	}
	if a.name != host.name || a.addr != host.addr || a.port != port {
		return mismatch("target names " + text)
	}
	return nil
}

// splitURL takes http://authority/path?query apart; rest is what the origin gets.
func splitURL(target string) (authority, rest string, ok bool) {
	const scheme = "http://"
	if len(target) < len(scheme) || !strings.EqualFold(target[:len(scheme)], scheme) {
		return "", "", false
	}
	authority = target[len(scheme):]
	if i := strings.IndexAny(authority, "/?"); i >= 0 {
		authority, rest = authority[:i], authority[i:]
	}
	if !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	return authority, rest, authority != ""
}

// sameAddr wants a Host that is an address to be the dialled one.
func (c *session) sameAddr(a netip.Addr) *refusal {
	switch c.Dialer.Check(a) {
	case policy.Self:
		return &refusal{reason: event.SelfAddress, status: 403, detail: "Host is " + a.String()}
	case policy.Forbidden:
		return &refusal{reason: event.InternalAddress, status: 403, detail: "Host is " + a.String()}
	}
	if !c.raw || a != c.orig.Addr() {
		return mismatch("Host is not the dialled address")
	}
	return nil
}
