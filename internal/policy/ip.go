package policy

import (
	"net/netip"
	"strings"
)

const ipHint = "an IP rule is 192.0.2.10:443, 10.1.0.0/16:5432 or [2001:db8::1]:443"

// parseIP parses the address part of an IP rule, with its brackets.
func parseIP(s string) (netip.Prefix, *fault) {
	inner, bracketed := strings.CutPrefix(s, "[")
	if bracketed {
		var ok bool
		if inner, ok = strings.CutSuffix(inner, "]"); !ok {
			return netip.Prefix{}, faultf(ipHint, "v6 address without closing bracket right before the port")
		}
	}
	p, f := parsePrefix(inner)
	if f != nil {
		return p, f
	}
	if p.Addr().Is6() != bracketed {
		return p, faultf(ipHint, "brackets are for v6 addresses, and v6 addresses need them")
	}
	return p, nil
}

// parsePrefix parses an address or a CIDR and accepts only the one canonical
// meaning: no zero padding, no host bits, no zone, no v4 address in v6 clothes.
func parsePrefix(s string) (netip.Prefix, *fault) {
	text, _, cidr := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, addressFault(text)
	}
	if addr.Zone() != "" {
		return netip.Prefix{}, faultf("leave the zone out", "address %s has a zone", addr)
	}
	if addr.Is4In6() {
		return netip.Prefix{}, faultf("write the v4 address: "+addr.Unmap().String(), "v4-mapped address %s", addr)
	}
	if !cidr {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, faultf(ipHint, "%q is not a CIDR", s)
	}
	if p != p.Masked() {
		return netip.Prefix{}, faultf("write "+p.Masked().String()+", or "+addr.String()+" for the one address",
			"host bits set in %s", p)
	}
	return p, nil
}

func addressFault(text string) *fault {
	octets := strings.Split(text, ".")
	padded := false
	for i, octet := range octets {
		if trimmed := strings.TrimLeft(octet, "0"); trimmed != octet && octet != "0" {
			padded = true
			octets[i] = trimmed
			if trimmed == "" {
				octets[i] = "0"
			}
		}
	}
	if decimal, err := netip.ParseAddr(strings.Join(octets, ".")); padded && err == nil {
		return faultf("write "+decimal.String()+" if decimal is meant", "zero-padded octet in %q, which some programs read as octal", text)
	}
	if _, ok := CanonicalName(text); ok {
		return faultf("names go into "+string(HTTPSRules)+", "+string(HTTPRules)+" or "+string(TCPRules), "%q is not an IP address", text)
	}
	return faultf(ipHint, "%q is not an IP address", text)
}

// parsePrivate parses an entry of allow_private.
func parsePrivate(s string) (netip.Prefix, *fault) {
	const hint = "allow_private takes addresses and CIDRs inside 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 and fc00::/7, without port"
	p, f := parsePrefix(s)
	if f != nil {
		if f.hint == ipHint {
			f.hint = hint
		}
		return p, f
	}
	for _, private := range privateNets() {
		if private.Overlaps(p) && private.Bits() <= p.Bits() {
			return p, nil
		}
	}
	return p, faultf(hint, "%s is not private", s)
}

// looksIP reports whether an entry of a mixed list is meant as an address.
func looksIP(text string) bool {
	if strings.HasPrefix(text, "[") || strings.Count(text, ":") > 1 {
		return true
	}
	base, _, _ := strings.Cut(text, ":")
	base, _, _ = strings.Cut(base, "/")
	last := strings.TrimSuffix(base, ".")
	last = last[strings.LastIndexByte(last, '.')+1:]
	return last != "" && numeric(lower(last))
}
