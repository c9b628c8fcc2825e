package main

import (
	"bytes"
	"flag"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tlsFlags are the free choices of "probe tls".
type tlsFlags struct {
	sni, sniList, alpn, cut, version          string
	noSNI, emptyName, emptyList, emptyExt     bool
	twice, last, grease, early                bool
	ech, esni, trailing, handshake            bool
	nameType, firstType                       int
	pad, segment, records, mss                int
	truncate, mutations, count, parallel      int
	recordVersion, helloVersion               uint
	seed                                      uint64
	delay, wait                               time.Duration
	send, behind, alpnRaw, tail, trailingName string
}

func (o *tlsFlags) register(f *flag.FlagSet) {
	f.StringVar(&o.sni, "sni", "", `server name, with Go's escapes (default: HOST)`)
	f.StringVar(&o.sniList, "sni-list", "", "several server names in one list, separated by commas")
	f.BoolVar(&o.noSNI, "no-sni", false, "leave server_name out")
	f.BoolVar(&o.emptyList, "empty-list", false, "server_name with an empty list")
	f.BoolVar(&o.twice, "twice", false, "server_name twice")
	f.BoolVar(&o.last, "sni-last", false, "server_name as the last extension")
	f.IntVar(&o.nameType, "name-type", 0, "type of the name, 0 is host_name")
	f.StringVar(&o.alpn, "alpn", "", "protocols, separated by commas")
	f.StringVar(&o.version, "version", "", "1.2 or 1.3 (default: both)")
	f.BoolVar(&o.ech, "ech", false, "with an encrypted_client_hello extension")
	f.BoolVar(&o.esni, "esni", false, "with the old encrypted_server_name extension")
	f.BoolVar(&o.trailing, "trailing", false, "a second ClientHello behind the first")
	f.IntVar(&o.pad, "pad", 0, "bytes of padding")
	f.IntVar(&o.records, "records", 0, "split into N records of equal size")
	f.StringVar(&o.cut, "cut", "", "split into two records: before-sni, in-sni, last-byte, or an offset")
	f.IntVar(&o.segment, "segment", 0, "bytes a write")
	f.DurationVar(&o.delay, "delay", 2*time.Millisecond, "between writes, with --segment")
	f.IntVar(&o.truncate, "truncate", -1, "send only the first N bytes")
	f.DurationVar(&o.wait, "wait", 0, "how long to wait for an answer (default: --timeout)")
	f.IntVar(&o.mutations, "mutate", 0, "N connections, each with one changed length")
	f.Uint64Var(&o.seed, "seed", 1, "first seed")
	f.BoolVar(&o.handshake, "handshake", false, "a real handshake and GET /; --segment, --records, --cut, --alpn and --version apply")
	f.StringVar(&o.send, "send", "", "raw bytes instead of a ClientHello")
	o.registerOdd(f)
}

// registerOdd are the flags for what no client sends.
func (o *tlsFlags) registerOdd(f *flag.FlagSet) {
	f.BoolVar(&o.emptyName, "empty-name", false, "a server name of no bytes")
	f.BoolVar(&o.emptyExt, "empty-extension", false, "server_name without a list")
	f.IntVar(&o.firstType, "first-type", 0, "type of the first name only")
	f.StringVar(&o.alpnRaw, "alpn-raw", "", "body of the ALPN extension, Go's escapes")
	f.BoolVar(&o.grease, "grease", false, "with GREASE suites, groups, versions and extensions (RFC 8701)")
	f.BoolVar(&o.early, "early", false, "announce early data")
	f.StringVar(&o.behind, "behind", "", "bytes right behind the hello, in the same write, Go's escapes")
	f.StringVar(&o.tail, "tail", "", "bytes behind the ClientHello in its record, Go's escapes")
	f.StringVar(&o.trailingName, "trailing-name", "", "a second ClientHello for this name in the record of the first")
	f.UintVar(&o.recordVersion, "record-version", 0x0301, "of the records")
	f.UintVar(&o.helloVersion, "hello-version", 0x0303, "of the ClientHello")
	f.IntVar(&o.mss, "mss", 0, "largest TCP segment")
	f.IntVar(&o.count, "count", 1, "of handshakes, with a sum instead of a line for each")
	f.IntVar(&o.parallel, "parallel", 1, "at once, with --count or --mutate")
}

func (o *tlsFlags) name(addr string) (string, error) {
	if o.sni != "" {
		return unescape(o.sni)
	}
	host, _, err := net.SplitHostPort(addr)
	return host, err
}

func (o *tlsFlags) hello(name string, seed uint64) *hello {
	h := &hello{
		names: [][]byte{[]byte(name)}, noSNI: o.noSNI, emptyList: o.emptyList, twice: o.twice, sniLast: o.last,
		nameType: byte(o.nameType), pad: o.pad, ech: o.ech, esni: o.esni, trailing: o.trailing,
		rand: rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // reproducible on purpose
	}
	h.emptyExt, h.grease, h.early, h.firstType = o.emptyExt, o.grease, o.early, byte(o.firstType)
	h.legacy = uint16(o.helloVersion)
	if o.emptyName {
		h.names = [][]byte{nil}
	}
	if o.sniList != "" {
		h.names = nil
		for n := range strings.SplitSeq(o.sniList, ",") {
			h.names = append(h.names, []byte(n))
		}
	}
	if o.alpn != "" {
		h.alpn = strings.Split(o.alpn, ",")
	}
	if o.version == "1.2" {
		h.version = 0x0303
	}
	return h
}

// flight is what goes over the wire first.
func (o *tlsFlags) flight(name string, seed uint64) ([]byte, error) {
	h := o.hello(name, seed)
	raw, err := unescape(o.alpnRaw)
	if err != nil {
		return nil, err
	}
	h.alpnRaw = raw
	m := h.message()
	if o.mutations > 0 {
		m = mutate(m, seed)
	}
	cuts, err := o.cuts(m, name)
	if err != nil {
		return nil, err
	}
	if o.trailingName != "" {
		h.names = [][]byte{[]byte(o.trailingName)}
		m = append(m, h.message()...)
	}
	tail, err := unescape(o.tail)
	if err != nil {
		return nil, err
	}
	b := records(append(m, tail...), uint16(o.recordVersion), cuts...)
	if o.send != "" {
		s, err := unescape(o.send)
		if err != nil {
			return nil, err
		}
		b = []byte(s)
	}
	if o.truncate >= 0 {
		b = b[:min(o.truncate, len(b))]
	}
	behind, err := unescape(o.behind)
	return slices.Concat(b, []byte(behind)), err
}

// cuts are the offsets in the message where a new record begins.
func (o *tlsFlags) cuts(m []byte, name string) ([]int, error) {
	at := bytes.Index(m, []byte(name))
	switch o.cut {
	case "":
	case "before-sni":
		return []int{at - 9}, nil
	case "in-sni":
		return []int{at + len(name)/2}, nil
	case "last-byte":
		return []int{len(m) - 1}, nil
	default:
		n, err := strconv.Atoi(o.cut)
		if err != nil {
			return nil, fatalf("--cut %q", o.cut)
		}
		return []int{n}, nil
	}
	var cuts []int
	for i := 1; i < o.records; i++ {
		cuts = append(cuts, len(m)*i/o.records)
	}
	return cuts, nil
}
