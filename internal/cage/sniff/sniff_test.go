package sniff_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/sniff"
)

func TestClassify(t *testing.T) {
	for in, want := range map[string]sniff.Kind{
		"":                               sniff.NeedMore,
		"\x16":                           sniff.TLS,
		"\x16\x03\x01":                   sniff.TLS,
		"\x16HTTP":                       sniff.TLS,
		"G":                              sniff.NeedMore,
		"GET":                            sniff.NeedMore,
		"GET ":                           sniff.HTTP,
		"GET /\r\n":                      sniff.HTTP, // 0.9, refused later as a bad request
		"CONNECT a:1 ":                   sniff.HTTP,
		"\r\nGET /":                      sniff.HTTP,
		"\r":                             sniff.NeedMore,
		"\r\n\r\nGET /":                  sniff.Unknown,
		" GET / HTTP/1.1\r\n":            sniff.Unknown,
		"get / http/1.1\r\n":             sniff.HTTP,
		"BREW /pot HTTP/1.1\r\n":         sniff.HTTP,
		"BREW /pot":                      sniff.NeedMore,
		"GET\t/ HTTP/1.1\r\n":            sniff.HTTP,
		"PRI * HTTP/2.0\r\n":             sniff.Unknown,
		"PRI * H":                        sniff.NeedMore,
		"PRI * HTTP/1.1\r\n":             sniff.HTTP,
		"SSH-2.0-OpenSSH_9.2p1\r\n":      sniff.Unknown,
		"EHLO example.com\r\n":           sniff.Unknown,
		"0032git-upload-pack":            sniff.Unknown,
		"\x00\x00\x00\x08\x04\xd2\x16/":  sniff.Unknown, // PostgreSQL SSLRequest
		"\x80\x2e\x01\x03\x01":           sniff.Unknown, // SSLv2 hello
		"\x15\x03\x01\x00\x02\x02\x28":   sniff.Unknown, // an alert
		strings.Repeat("A", 33):          sniff.Unknown,
		"A " + strings.Repeat("b", 4096): sniff.Unknown,
	} {
		if got := sniff.Classify([]byte(in)); got != want {
			t.Errorf("Classify(%.40q) = %d, want %d", in, got, want)
		}
	}
}

// read runs the assembler over wire in pieces of size n and parses the result.
func read(wire []byte, n int) sniff.Hello {
	var a sniff.Assembler
	for end := min(n, len(wire)); ; end = min(end+n, len(wire)) {
		message, outcome, detail := a.Next(wire[:end])
		if outcome == sniff.Complete {
			return sniff.Parse(message)
		}
		if outcome != sniff.Incomplete || end == len(wire) {
			return sniff.Hello{Outcome: outcome, Detail: detail}
		}
	}
}

func TestParseServerName(t *testing.T) {
	long := strings.Repeat("a.", 125) + "com" // 253
	for _, c := range []struct {
		title string
		ext   []byte
		want  sniff.Outcome
		name  string
	}{
		{"plain", sni("pypi.org"), sniff.Complete, "pypi.org"},
		{"upper case", sni("PyPI.Org"), sniff.Complete, "pypi.org"},
		{"one dot behind", sni("pypi.org."), sniff.Complete, "pypi.org"},
		{"two dots behind", sni("pypi.org.."), sniff.InvalidSNI, ""},
		{"dot before", sni(".pypi.org"), sniff.InvalidSNI, ""},
		{"only a dot", sni("."), sniff.InvalidSNI, ""},
		{"underscore", sni("_svc.example.com"), sniff.Complete, "_svc.example.com"},
		{"A-label", sni("XN--bcher-kva.example.com"), sniff.Complete, "xn--bcher-kva.example.com"},
		{"U-label", sni("bücher.example.com"), sniff.InvalidSNI, ""},
		{"invalid A-label", sni("xn--a\x80.example.com"), sniff.InvalidSNI, ""},
		{"single label", sni("localhost"), sniff.InvalidSNI, ""},
		{"IPv4", sni("192.0.2.1"), sniff.InvalidSNI, ""},
		{"IPv4 in hex", sni("0xc0000201"), sniff.InvalidSNI, ""},
		{"IPv6", sni("[2001:db8::1]"), sniff.InvalidSNI, ""},
		{"NUL", sni("evil.example.net\x00.pypi.org"), sniff.InvalidSNI, ""},
		{"line feed", sni("pypi.org\n"), sniff.InvalidSNI, ""},
		{"space", sni("pypi.org "), sniff.InvalidSNI, ""},
		{"port", sni("pypi.org:443"), sniff.InvalidSNI, ""},
		{"253 bytes", sni(long), sniff.Complete, long},
		{"254 bytes", sni("a" + long), sniff.InvalidSNI, ""},
		{"64-byte label", sni(strings.Repeat("a", 64) + ".com"), sniff.InvalidSNI, ""},
		{"no server_name", nil, sniff.MissingSNI, ""},
		{"empty extension", extension(0, nil), sniff.InvalidSNI, ""},
		{"empty list", extension(0, []byte{0, 0}), sniff.InvalidSNI, ""},
		{"empty name", sni(""), sniff.InvalidSNI, ""},
		{"two names", extension(0, prefix16(append(entry(0, "pypi.org"), entry(0, "evil.example.net")...))), sniff.InvalidSNI, ""},
		{"unknown type first", extension(0, prefix16(append(entry(7, "x"), entry(0, "pypi.org")...))), sniff.InvalidSNI, ""},
		{"two extensions", append(sni("pypi.org"), sni("pypi.org")...), sniff.InvalidSNI, ""},
		{"list length lies", extension(0, append([]byte{0, 3}, entry(0, "pypi.org")...)), sniff.Malformed, ""},
		{"name length lies", extension(0, prefix16([]byte{0, 0, 200, 'a'})), sniff.Malformed, ""},
		{"other duplicate", append(sni("pypi.org"), append(extension(99, nil), extension(99, nil)...)...), sniff.Malformed, ""},
		{"ALPN", append(sni("pypi.org"), extension(16, prefix16([]byte("\x02h2")))...), sniff.Complete, "pypi.org"},
		{"empty ALPN", append(sni("pypi.org"), extension(16, prefix16(nil))...), sniff.Malformed, ""},
		{"malformed ALPN", append(sni("pypi.org"), extension(16, prefix16([]byte("\x09h2")))...), sniff.Malformed, ""},
		{"malformed behind invalid", append(sni("a b"), 0, 1, 0, 9), sniff.Malformed, ""},
	} {
		h := read(records(hello(0x0303, c.ext), 1<<14), 1<<16)
		if h.Outcome != c.want || h.Name != c.name {
			t.Errorf("%s: %d %q (%s), want %d %q", c.title, h.Outcome, h.Name, h.Detail, c.want, c.name)
		}
	}
}

func TestParseECH(t *testing.T) {
	for _, typ := range []uint16{0xfe0d, 0xffce} {
		for _, ext := range [][]byte{append(sni("pypi.org"), extension(typ, []byte{0})...), append(extension(typ, nil), sni("pypi.org")...)} {
			if h := read(records(hello(0x0303, ext), 1<<14), 1<<16); !h.ECH || h.Name != "pypi.org" {
				t.Errorf("%#x: %+v", typ, h)
			}
		}
	}
	if h := read(records(hello(0x0303, sni("pypi.org")), 1<<14), 1<<16); h.ECH {
		t.Error("ECH where there is none")
	}
}

func TestParseVersions(t *testing.T) {
	for version, want := range map[uint16]sniff.Outcome{
		0x0200: sniff.Malformed, 0x0300: sniff.Malformed, 0x0301: sniff.Complete,
		0x0303: sniff.Complete, 0x0304: sniff.Complete, 0x7f17: sniff.Malformed, 0xffff: sniff.Malformed,
	} {
		if h := read(records(hello(version, sni("pypi.org")), 1<<14), 1<<16); h.Outcome != want {
			t.Errorf("hello version %#x: %d (%s), want %d", version, h.Outcome, h.Detail, want)
		}
		wire := records(hello(0x0303, sni("pypi.org")), 1<<14)
		wire[1], wire[2] = byte(version>>8), byte(version)
		if h := read(wire, 1<<16); h.Outcome != want {
			t.Errorf("record version %#x: %d (%s), want %d", version, h.Outcome, h.Detail, want)
		}
	}
}

// However the hello is cut into segments and records, the name is the same.
func TestReassembly(t *testing.T) {
	message := hello(0x0303, append(extension(21, make([]byte, 300)), sni("pypi.org")...))
	for _, record := range []int{1, 2, 3, 4, 5, 17, 100, len(message) - 1, len(message)} {
		wire := records(message, record)
		for _, segment := range []int{1, 2, 7, 1000, len(wire)} {
			if h := read(wire, segment); h.Outcome != sniff.Complete || h.Name != "pypi.org" {
				t.Errorf("records of %d, segments of %d: %+v", record, segment, h)
			}
			if h := read(wire[:len(wire)-1], segment); h.Outcome != sniff.Incomplete {
				t.Errorf("records of %d, segments of %d, one byte short: %+v", record, segment, h)
			}
		}
	}
}

func TestOversize(t *testing.T) {
	for padding, want := range map[int]sniff.Outcome{
		4 << 10: sniff.Complete, 16000: sniff.Complete, 40 << 10: sniff.Complete, 60 << 10: sniff.Complete,
	} {
		message := hello(0x0303, append(extension(21, make([]byte, padding)), sni("pypi.org")...))
		if h := read(records(message, 1<<14), 1400); h.Outcome != want {
			t.Errorf("padding %d: %d (%s), want %d", padding, h.Outcome, h.Detail, want)
		}
	}
	big := append([]byte{1, 1, 0xd4, 0xc0}, make([]byte, 120000)...)
	if h := read(records(big, 1<<14), 1400); h.Outcome != sniff.TooLarge {
		t.Errorf("120 KB: %+v", h)
	}
	if h := read(records(big, 1<<14)[:9], 9); h.Outcome != sniff.TooLarge {
		t.Errorf("120 KB announced: %+v", h)
	}
	// Small records cost wire bytes, and those are what is bounded.
	message := hello(0x0303, append(extension(21, make([]byte, 20<<10)), sni("pypi.org")...))
	if h := read(records(message, 1), 4096); h.Outcome != sniff.TooLarge {
		t.Errorf("records of one byte: %+v", h)
	}
}

func TestMalformed(t *testing.T) {
	good := hello(0x0303, sni("pypi.org"))
	short := bytes.Clone(good)
	short[3]--
	for title, wire := range map[string][]byte{
		"no hello":          records([]byte{2, 0, 0, 0}, 100),
		"two hellos":        records(append(bytes.Clone(good), good...), 1<<14),
		"length one less":   records(short, 1<<14),
		"empty record":      append([]byte{22, 3, 1, 0, 0}, records(good, 1<<14)...),
		"long record":       {22, 3, 1, 0x40, 1},
		"alert inside":      append(records(good, 20)[:25], 21, 3, 3, 0, 2, 2, 40),
		"empty hello":       records([]byte{1, 0, 0, 0}, 100),
		"only the random":   records(append([]byte{1, 0, 0, 34, 3, 3}, make([]byte, 32)...), 100),
		"too many":          records(hello(0x0303, manyExtensions(200)), 1<<14),
		"extension too far": records(hello(0x0303, []byte{0, 9, 0, 5, 1}), 1<<14),
	} {
		if h := read(wire, 1<<16); h.Outcome != sniff.Malformed {
			t.Errorf("%s: %+v", title, h)
		}
	}
}

func TestSingleRecordIsNotCopied(t *testing.T) {
	wire := records(hello(0x0303, sni("pypi.org")), 1<<14)
	allocs := testing.AllocsPerRun(100, func() {
		var a sniff.Assembler
		message, _, _ := a.Next(wire)
		sniff.Parse(message)
	})
	if allocs > 1 { // the name
		t.Errorf("%v allocations", allocs)
	}
}
