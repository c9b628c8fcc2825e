package policy

import (
	"net/netip"
	"strconv"
	"unicode/utf8"
)

// Target is one destination to judge. Name is set for tls, http and tcp, in
// canonical form (see CanonicalName); Addr for ip.
type Target struct {
	Protocol Protocol
	Name     string
	Addr     netip.Addr
	Port     uint16
}

// String is host:port or ip:port, the text that reports and rules share.
func (t Target) String() string {
	if t.Protocol == IP {
		return netip.AddrPortFrom(t.Addr.Unmap(), t.Port).String()
	}
	return hostPort(t.Name, t.Port)
}

// valid reports whether t is fit to be judged: a canonical name where the
// protocol has names, an address where it has not, and a port.
func (t Target) valid() bool {
	if t.Port == 0 {
		return false
	}
	if t.Protocol == IP {
		return t.Name == "" && t.Addr.IsValid() && t.Addr.Zone() == ""
	}
	name, ok := CanonicalName(t.Name)
	return ok && name == t.Name
}

func hostPort(name string, port uint16) string {
	b := make([]byte, 0, maxName+6)
	b = append(append(b, name...), ':')
	return string(strconv.AppendUint(b, uint64(port), 10))
}

func runeLen(s string) int {
	_, n := utf8.DecodeRuneInString(s)
	return n
}
