package sniff

import (
	"slices"

	"golang.org/x/crypto/cryptobyte"

	"github.com/buildcage/buildcage/internal/policy"
)

// Extensions that are read.
const (
	extServerName = 0
	extALPN       = 16
	// extECH is encrypted_client_hello. GREASE ECH (RFC 9849, section 6.2) is
	// made to be indistinguishable from the real one without the server's
	// key, so it is treated as the real one: what is hidden can't be judged.
	extECH  = 0xfe0d
	extESNI = 0xffce // its predecessor
)

// maxExtensions is far above what clients send (about 20) and keeps the search
// for duplicates cheap.
const maxExtensions = 128

// Hello is what a ClientHello says about its destination.
type Hello struct {
	Outcome Outcome
	Detail  string // a few words more about a refusal; never wire bytes
	Name    string // canonical, with Complete
	Raw     []byte // the host_name as sent; aliases the message
	ECH     bool   // encrypted_client_hello or ESNI present, GREASE included
}

// Parse reads a handshake message as Assembler returns it. Outcome is never
// Incomplete or TooLarge.
func Parse(message []byte) Hello {
	var h Hello
	s := cryptobyte.String(message)
	var extensions cryptobyte.String
	if detail := preamble(&s); detail != "" {
		return h.refuse(Malformed, detail)
	}
	switch {
	case s.Empty(): // TLS 1.0 without extensions
		return h.refuse(MissingSNI, "no extensions")
	case !s.ReadUint16LengthPrefixed(&extensions) || !s.Empty():
		return h.refuse(Malformed, "extensions length")
	}
	var seenSpace [maxExtensions]uint16
	seen := seenSpace[:0]
	h.Outcome = MissingSNI
	for !extensions.Empty() {
		var typ uint16
		var data cryptobyte.String
		switch {
		case !extensions.ReadUint16(&typ) || !extensions.ReadUint16LengthPrefixed(&data):
			return h.refuse(Malformed, "extension length")
		case slices.Contains(seen, typ) && typ == extServerName:
			return h.refuse(InvalidSNI, "two server_name extensions")
		case slices.Contains(seen, typ):
			return h.refuse(Malformed, "duplicate extension")
		case len(seen) == maxExtensions:
			return h.refuse(Malformed, "too many extensions")
		}
		seen = append(seen, typ)
		if h.extension(typ, data); h.Outcome == Malformed {
			return h
		}
	}
	return h
}

func (h Hello) refuse(o Outcome, detail string) Hello {
	h.Outcome, h.Detail, h.Name = o, detail, ""
	return h
}

// preamble reads what stands before the extensions and returns what is wrong with it.
func preamble(s *cryptobyte.String) string {
	var version uint16
	var session, suites, compression cryptobyte.String
	switch {
	case !s.ReadUint16(&version) || !s.Skip(32):
		return "too short"
	case version < 0x0301 || version > 0x0304:
		return "hello version " + hexVersion(byte(version>>8), byte(version))
	case !s.ReadUint8LengthPrefixed(&session) || len(session) > 32:
		return "session id length"
	case !s.ReadUint16LengthPrefixed(&suites) || len(suites) == 0 || len(suites)%2 != 0:
		return "cipher suites length"
	case !s.ReadUint8LengthPrefixed(&compression) || !slices.Contains(compression, 0):
		return "compression methods"
	}
	return ""
}

// extension reads one extension. A fault in the name does not end the search
// for worse ones: a malformed hello is reported as malformed.
func (h *Hello) extension(typ uint16, data cryptobyte.String) {
	switch typ {
	case extServerName:
		*h = h.serverName(data)
	case extECH, extESNI:
		h.ECH = true
	case extALPN:
		if !validALPN(data) {
			*h = h.refuse(Malformed, "ALPN list")
		}
	}
}

// serverName reads server_name (RFC 6066, section 3). Several names, or names
// of another type, could be read differently by the origin; both are refused.
func (h Hello) serverName(data cryptobyte.String) Hello {
	var list, name cryptobyte.String
	var typ uint8
	switch {
	case data.Empty():
		return h.refuse(InvalidSNI, "empty extension")
	case !data.ReadUint16LengthPrefixed(&list) || !data.Empty():
		return h.refuse(Malformed, "server_name length")
	case list.Empty():
		return h.refuse(InvalidSNI, "empty list")
	case !list.ReadUint8(&typ) || !list.ReadUint16LengthPrefixed(&name):
		return h.refuse(Malformed, "server_name entry length")
	}
	h.Raw = name
	switch {
	case typ != 0:
		return h.refuse(InvalidSNI, "unknown name type")
	case !list.Empty():
		return h.refuse(InvalidSNI, "several names")
	case name.Empty():
		return h.refuse(InvalidSNI, "empty name")
	}
	canonical, ok := policy.CanonicalName(string(name))
	switch {
	case !ok:
		return h.refuse(InvalidSNI, "not a host name")
	case policy.SingleLabel(canonical):
		return h.refuse(InvalidSNI, "single label")
	}
	h.Outcome, h.Name = Complete, canonical
	return h
}

func validALPN(data cryptobyte.String) bool {
	var list, protocol cryptobyte.String
	if !data.ReadUint16LengthPrefixed(&list) || list.Empty() || !data.Empty() {
		return false
	}
	for !list.Empty() {
		if !list.ReadUint8LengthPrefixed(&protocol) || protocol.Empty() {
			return false
		}
	}
	return true
}
