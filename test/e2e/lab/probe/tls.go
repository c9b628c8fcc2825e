package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// tlsFlags are the free choices of "probe tls".
type tlsFlags struct {
	sni, sniList, alpn, cut, version string
	noSNI, emptyList, twice, last    bool
	ech, esni, trailing, handshake   bool
	nameType, pad, segment, records  int
	truncate, mutations              int
	seed                             uint64
	delay, wait                      time.Duration
	send                             string
}

func (p *probe) tls(args []string) error {
	var o tlsFlags
	f := p.flags("tls")
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
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	for _, addr := range rest {
		if o.handshake {
			err = p.handshake(addr, &o)
		} else {
			err = p.sendHello(addr, &o)
		}
		var fatal *fatalError
		if errors.As(err, &fatal) {
			return err
		}
		if err != nil {
			p.say("%s: %v", addr, err)
		}
	}
	return nil
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

func (p *probe) sendHello(addr string, o *tlsFlags) error {
	name, err := o.name(addr)
	if err != nil {
		return err
	}
	for i := range max(o.mutations, 1) {
		m := o.hello(name, o.seed+uint64(i)).message()
		if o.mutations > 0 {
			m = mutate(m, o.seed+uint64(i))
		}
		cuts, err := o.cuts(m, name)
		if err != nil {
			return err
		}
		b := records(m, cuts...)
		if o.send != "" {
			s, err := unescape(o.send)
			if err != nil {
				return err
			}
			b = []byte(s)
		}
		if o.truncate >= 0 {
			b = b[:min(o.truncate, len(b))]
		}
		answer, err := p.exchange(addr, b, o)
		if err != nil {
			answer = err.Error()
		}
		p.say("%s sni=%q: %s", addr, name, answer)
	}
	return nil
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

// exchange sends bytes and says what came back.
func (p *probe) exchange(addr string, b []byte, o *tlsFlags) (string, error) {
	c, err := p.dial(addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	start := time.Now()
	writeErr := writeSlowly(c, b, o.segment, o.delay)
	wait := o.wait
	if wait == 0 {
		wait = p.timeout
	}
	_ = c.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, 4096)
	n, err := io.ReadAtLeast(c, buf, 1)
	took := time.Since(start).Round(time.Millisecond)
	switch {
	case n >= 7 && buf[0] == 0x15:
		return fmt.Sprintf("alert %d %d after %v", buf[5], buf[6], took), nil
	case n > 0 && buf[0] == 0x16:
		return fmt.Sprintf("server hello after %v", took), nil
	case n > 0:
		return fmt.Sprintf("answer %s after %v", brief(buf[:n]), took), nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("no answer in %v", took), nil
	}
	return fmt.Sprintf("closed after %v (%v, %v)", took, err, writeErr), nil
}

func writeSlowly(w io.Writer, b []byte, size int, delay time.Duration) error {
	if size <= 0 {
		_, err := w.Write(b)
		return err
	}
	for piece := range slices.Chunk(b, size) {
		if _, err := w.Write(piece); err != nil {
			return err
		}
		time.Sleep(delay)
	}
	return nil
}

// resplit changes how the first flight travels, not what it says: the
// handshake must still succeed.
type resplit struct {
	net.Conn
	o    *tlsFlags
	name string
	done bool
}

func (r *resplit) Write(b []byte) (int, error) {
	if r.done || len(b) < 6 || b[0] != 0x16 || b[5] != 1 {
		return r.Conn.Write(b)
	}
	r.done = true
	m := b[5:]
	cuts, err := r.o.cuts(m, r.name)
	if err != nil {
		return 0, err
	}
	if err := writeSlowly(r.Conn, records(m, cuts...), r.o.segment, r.o.delay); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (p *probe) handshake(addr string, o *tlsFlags) error {
	name, err := o.name(addr)
	if err != nil {
		return err
	}
	raw, err := p.dial(addr)
	if err != nil {
		return err
	}
	defer raw.Close()
	config := &tls.Config{ServerName: name}
	if o.alpn != "" {
		config.NextProtos = strings.Split(o.alpn, ",")
	}
	switch o.version {
	case "1.2":
		config.MaxVersion = tls.VersionTLS12
	case "1.3":
		config.MinVersion = tls.VersionTLS13
	}
	_ = raw.SetDeadline(time.Now().Add(max(p.timeout, o.wait)))
	c := tls.Client(&resplit{Conn: raw, o: o, name: name}, config)
	if err := c.Handshake(); err != nil {
		return err
	}
	state := c.ConnectionState()
	p.say("%s sni=%q: handshake %s alpn=%q", addr, name, tls.VersionName(state.Version), state.NegotiatedProtocol)
	if state.NegotiatedProtocol == "h2" {
		return nil
	}
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", name)
	answer, _ := io.ReadAll(io.LimitReader(c, 4096))
	p.say("%s", brief(answer))
	return nil
}
