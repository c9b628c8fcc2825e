package main

import (
	"encoding/binary"
	"math/rand/v2"
)

// hello is a ClientHello that is built byte by byte.
type hello struct {
	names     [][]byte // server names in the list
	noSNI     bool
	emptyList bool // server_name with an empty list
	twice     bool // server_name twice
	sniLast   bool
	emptyExt  bool // server_name without a list
	nameType  byte
	firstType byte // of the first name only
	pad       int
	alpn      []string
	alpnRaw   string // body of the extension
	grease    bool
	early     bool   // announces early data
	legacy    uint16 // version of the hello, 0: TLS 1.2
	ech, esni bool
	trailing  bool // a second handshake message behind
	version   uint16
	rand      *rand.Rand
}

func u16(n int) []byte { return binary.BigEndian.AppendUint16(nil, uint16(n)) }

func sized(b []byte) []byte { return append(u16(len(b)), b...) }

func extension(id int, body []byte) []byte { return append(u16(id), sized(body)...) }

func (h *hello) random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(h.rand.Uint32())
	}
	return b
}

func (h *hello) serverName() []byte {
	var list []byte
	for i, n := range h.names {
		typ := h.nameType
		if i == 0 && h.firstType != 0 {
			typ = h.firstType
		}
		list = append(append(list, typ), sized(n)...)
	}
	switch {
	case h.emptyExt:
		return extension(0, nil)
	case h.emptyList:
		list = nil
	}
	return extension(0, sized(list))
}

// message is the handshake message, without record headers.
func (h *hello) message() []byte {
	version := h.legacy
	if version == 0 {
		version = 0x0303
	}
	body := u16(int(version))
	body = append(body, h.random(32)...)
	body = append(append(body, 32), h.random(32)...)
	body = append(body, sized(h.suites())...)
	body = append(body, 1, 0)
	body = append(body, sized(h.extensions())...)
	m := append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	if h.trailing {
		m = append(m, m...)
	}
	return m
}

// maxPad is what the padding extension takes; what is beyond goes into suites
// that nobody knows.
const maxPad = 60 << 10

func (h *hello) suites() []byte {
	list := []byte{0x13, 0x01, 0x13, 0x02, 0xc0, 0x2b, 0xc0, 0x2f, 0x00, 0x2f}
	if h.grease {
		list = append([]byte{0x0a, 0x0a}, list...)
	}
	for i := maxPad; i < h.pad && len(list) < 0xfffe; i += 2 {
		list = append(list, 0x5a, 0x5b)
	}
	return list
}

func (h *hello) extensions() []byte {
	var sni, ext []byte
	groups, versions := []byte{0x00, 0x1d, 0x00, 0x17}, []byte{3, 4, 3, 3}
	if h.grease {
		ext = extension(0x1a1a, nil)
		groups, versions = append([]byte{0x2a, 0x2a}, groups...), append([]byte{0x3a, 0x3a}, versions...)
	}
	if !h.noSNI {
		sni = h.serverName()
		if h.twice {
			sni = append(sni, sni...)
		}
	}
	if !h.sniLast {
		ext = append(ext, sni...)
	}
	ext = append(ext, extension(10, sized(groups))...)
	ext = append(ext, extension(11, []byte{1, 0})...)
	ext = append(ext, extension(13, sized([]byte{4, 3, 8, 4, 4, 1, 8, 7}))...)
	if h.version == 0 || h.version >= 0x0304 {
		ext = append(ext, extension(43, append([]byte{byte(len(versions))}, versions...))...)
		ext = append(ext, extension(51, sized(append([]byte{0, 0x1d}, sized(h.random(32))...)))...)
	}
	if h.early {
		ext = append(ext, extension(42, nil)...)
	}
	if h.alpnRaw != "" {
		ext = append(ext, extension(16, []byte(h.alpnRaw))...)
	} else if len(h.alpn) > 0 {
		var list []byte
		for _, a := range h.alpn {
			list = append(append(list, byte(len(a))), a...)
		}
		ext = append(ext, extension(16, sized(list))...)
	}
	if h.ech {
		ext = append(ext, extension(0xfe0d, append([]byte{0, 0, 1, 0, 1, 7}, append(sized(h.random(32)), sized(h.random(160))...)...))...)
	}
	if h.esni {
		ext = append(ext, extension(0xffce, h.random(200))...)
	}
	if h.pad > 0 {
		ext = append(ext, extension(21, make([]byte, min(h.pad, maxPad)))...)
	}
	if h.grease {
		ext = append(ext, extension(0x4a4a, []byte{0})...)
	}
	if h.sniLast {
		ext = append(ext, sni...)
	}
	return ext
}

// record puts a header of type handshake before a piece.
func record(version uint16, piece []byte) []byte {
	return append([]byte{0x16, byte(version >> 8), byte(version)}, sized(piece)...)
}

// maxRecord is the longest piece of plaintext in a record.
const maxRecord = 1 << 14

// records splits a message at the given offsets into records.
func records(m []byte, version uint16, cuts ...int) []byte {
	var out []byte
	from := 0
	for _, cut := range append(cuts, len(m)) {
		for cut = min(max(cut, from), len(m)); from < cut; {
			to := min(cut, from+maxRecord)
			out = append(out, record(version, m[from:to])...)
			from = to
		}
	}
	return out
}

// mutate changes one length field or byte, the same for the same seed.
func mutate(m []byte, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // reproducible on purpose
	out := append([]byte(nil), m...)
	lengths := []int{1, 2, 3, 38, 71, 72, 83, 84, 85, 86, 87, 88, 89, 90, 91, 92, 93, 94}
	i := lengths[r.IntN(len(lengths))] % len(out)
	switch r.IntN(3) {
	case 0:
		out[i] += byte(1 + r.IntN(4))
	case 1:
		out[i] -= byte(1 + r.IntN(4))
	default:
		out[i] = 0xff
	}
	return out
}
