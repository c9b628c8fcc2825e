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
	nameType  byte
	pad       int
	alpn      []string
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
	for _, n := range h.names {
		list = append(append(list, h.nameType), sized(n)...)
	}
	if h.emptyList {
		list = nil
	}
	return extension(0, sized(list))
}

// message is the handshake message, without record headers.
func (h *hello) message() []byte {
	body := u16(0x0303)
	body = append(body, h.random(32)...)
	body = append(append(body, 32), h.random(32)...)
	body = append(body, sized([]byte{0x13, 0x01, 0x13, 0x02, 0xc0, 0x2b, 0xc0, 0x2f, 0x00, 0x2f})...)
	body = append(body, 1, 0)
	body = append(body, sized(h.extensions())...)
	m := append([]byte{1, byte(len(body) >> 16), byte(len(body) >> 8), byte(len(body))}, body...)
	if h.trailing {
		m = append(m, m...)
	}
	return m
}

func (h *hello) extensions() []byte {
	var sni, ext []byte
	if !h.noSNI {
		sni = h.serverName()
		if h.twice {
			sni = append(sni, sni...)
		}
	}
	if !h.sniLast {
		ext = append(ext, sni...)
	}
	ext = append(ext, extension(10, sized([]byte{0x00, 0x1d, 0x00, 0x17}))...)
	ext = append(ext, extension(11, []byte{1, 0})...)
	ext = append(ext, extension(13, sized([]byte{4, 3, 8, 4, 4, 1, 8, 7}))...)
	if h.version == 0 || h.version >= 0x0304 {
		ext = append(ext, extension(43, []byte{4, 3, 4, 3, 3})...)
		ext = append(ext, extension(51, sized(append([]byte{0, 0x1d}, sized(h.random(32))...)))...)
	}
	if len(h.alpn) > 0 {
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
		ext = append(ext, extension(21, make([]byte, h.pad))...)
	}
	if h.sniLast {
		ext = append(ext, sni...)
	}
	return ext
}

// record puts a header of type handshake before a piece.
func record(piece []byte) []byte { return append([]byte{0x16, 3, 1}, sized(piece)...) }

// maxRecord is the longest piece of plaintext in a record.
const maxRecord = 1 << 14

// records splits a message at the given offsets into records.
func records(m []byte, cuts ...int) []byte {
	var out []byte
	from := 0
	for _, cut := range append(cuts, len(m)) {
		for cut = min(max(cut, from), len(m)); from < cut; {
			to := min(cut, from+maxRecord)
			out = append(out, record(m[from:to])...)
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
