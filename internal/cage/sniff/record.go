package sniff

import "encoding/binary"

const (
	// MaxHello bounds the bytes on the wire from the first record header to
	// the end of the hello. Go's and OpenSSL's servers take no more either.
	MaxHello = 64 << 10

	recordHeader    = 5
	maxRecord       = 16 << 10 // RFC 8446, section 5.1
	messageHeader   = 4
	typeClientHello = 1
)

// Outcome is what became of a hello.
type Outcome uint8

const (
	Incomplete Outcome = iota
	Complete           // well-formed, with exactly one legal name
	MissingSNI         // well-formed, no server_name
	InvalidSNI
	Malformed
	TooLarge
)

// Assembler finds the ClientHello at the beginning of a connection. The zero
// value is ready. It reads each record once, however many reads it takes for the record to arrive.
type Assembler struct {
	next  int    // offset of the next record header
	parts []byte // handshake bytes of the records so far, when there are several
}

// Next looks at everything received so far, which must only grow from call to
// call. With Complete, message is the handshake message without its header; it
// aliases received when the hello came in one record. Otherwise the outcome is
// Incomplete, Malformed or TooLarge, and detail says more.
func (a *Assembler) Next(received []byte) (message []byte, outcome Outcome, detail string) {
	for {
		fragment, outcome, detail := a.record(received)
		if outcome != Complete {
			if outcome == Incomplete && len(received) >= MaxHello {
				return nil, TooLarge, "more than 64 KiB"
			}
			return nil, outcome, detail
		}
		whole := fragment
		if a.parts != nil {
			a.parts = append(a.parts, fragment...)
			whole = a.parts
		}
		message, outcome, detail = split(whole)
		if outcome != Incomplete {
			return message, outcome, detail
		}
		if a.parts == nil {
			a.parts = append(make([]byte, 0, 2*len(fragment)), fragment...)
		}
	}
}

// record takes one whole record off received.
func (a *Assembler) record(received []byte) ([]byte, Outcome, string) {
	rest := received[min(a.next, len(received)):]
	if len(rest) > 0 && rest[0] != recordHandshake {
		return nil, Malformed, "another record inside the hello"
	}
	if len(rest) < recordHeader {
		return nil, Incomplete, ""
	}
	// RFC 8446 tells servers to ignore the version; the ones that real clients
	// send are TLS 1.0 to 1.2, and 1.3 by mistake. SSL 3.0 is refused.
	if rest[1] != 3 || rest[2] < 1 || rest[2] > 4 {
		return nil, Malformed, "record version " + hexVersion(rest[1], rest[2])
	}
	length := int(binary.BigEndian.Uint16(rest[3:]))
	switch {
	case length == 0:
		return nil, Malformed, "empty handshake record"
	case length > maxRecord:
		return nil, Malformed, "record longer than 16 KiB"
	}
	if a.parts == nil && len(rest) >= recordHeader+messageHeader && length >= messageHeader {
		// Fail fast: the first header tells type and size.
		if _, outcome, detail := split(rest[recordHeader : recordHeader+messageHeader]); outcome > Complete {
			return nil, outcome, detail
		}
	}
	if len(rest) < recordHeader+length {
		return nil, Incomplete, ""
	}
	a.next += recordHeader + length
	if a.next > MaxHello {
		return nil, TooLarge, "more than 64 KiB"
	}
	return rest[recordHeader : recordHeader+length], Complete, ""
}

// split takes the one message out of the handshake bytes so far.
func split(b []byte) ([]byte, Outcome, string) {
	if len(b) > 0 && b[0] != typeClientHello {
		return nil, Malformed, "first handshake message is no ClientHello"
	}
	if len(b) < messageHeader {
		return nil, Incomplete, ""
	}
	length := int(b[1])<<16 | int(b[2])<<8 | int(b[3])
	switch b = b[messageHeader:]; {
	case length > MaxHello-recordHeader-messageHeader:
		return nil, TooLarge, "more than 64 KiB"
	case len(b) < length:
		return nil, Incomplete, ""
	case len(b) > length:
		return nil, Malformed, "bytes behind the hello in its record"
	}
	return b, Complete, ""
}

func hexVersion(major, minor byte) string {
	const hex = "0123456789abcdef"
	return string([]byte{'0', 'x', hex[major>>4], hex[major&15], hex[minor>>4], hex[minor&15]})
}
