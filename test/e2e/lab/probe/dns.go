package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

type dnsFlags struct {
	server, types, raw string
	tcp                bool
	count, label, edns int
	corpus             int
	seed               uint64
	parallel           int
	limits, variants   bool
}

// dns asks questions. Without --server it asks whom resolv.conf names.
func (p *probe) dns(args []string) error {
	var o dnsFlags
	f := p.flags("dns")
	f.StringVar(&o.server, "server", "", "address or address:port, several separated by commas")
	f.StringVar(&o.types, "type", "A", "types, separated by commas")
	f.StringVar(&o.raw, "raw", "", "a whole message in hex instead of a question")
	f.BoolVar(&o.tcp, "tcp", false, "over TCP")
	f.IntVar(&o.count, "count", 1, "ask N times; with --label each time for another name")
	f.IntVar(&o.label, "label", 0, "put a label of N bytes, different each time, before the name")
	f.IntVar(&o.edns, "edns", 0, "with an OPT record of this size")
	f.BoolVar(&o.limits, "limits", false, "names at and beyond the limits instead of a question")
	f.BoolVar(&o.variants, "edns-variants", false, "EDNS in legal and illegal forms instead of a question")
	f.IntVar(&o.corpus, "corpus", 0, "N malformed messages instead of a question")
	f.Uint64Var(&o.seed, "seed", 1, "of the corpus and of labels")
	f.IntVar(&o.parallel, "parallel", 8, "at once, with --count")
	rest, err := parse(f, args, 0)
	if err != nil {
		return err
	}
	if o.server == "" {
		c, err := dns.ClientConfigFromFile("/etc/resolv.conf")
		if err != nil {
			return err
		}
		o.server = c.Servers[0]
	}
	for server := range strings.SplitSeq(o.server, ",") {
		if _, _, err := net.SplitHostPort(server); err != nil {
			server = net.JoinHostPort(server, "53")
		}
		switch {
		case o.raw != "":
			b, err := hex.DecodeString(o.raw)
			if err != nil {
				return &fatalError{err}
			}
			p.say("%s: %s", server, p.packet(server, b))
		case o.limits:
			p.packets(server, limits())
		case o.variants:
			p.packets(server, ednsVariants())
		case o.corpus > 0:
			p.corpus(server, &o)
		default:
			for _, name := range rest {
				p.ask(server, name, &o)
			}
		}
	}
	return nil
}

func (p *probe) ask(server, name string, o *dnsFlags) {
	for typ := range strings.SplitSeq(o.types, ",") {
		if o.count == 1 && o.label == 0 {
			p.say("%s %s %s: %s", server, name, typ, p.question(server, name, typ, o))
			continue
		}
		names := make([]string, o.count)
		r := rand.New(rand.NewPCG(o.seed, 2)) //nolint:gosec // reproducible on purpose
		for i := range names {
			names[i] = name
			if o.label > 0 {
				label := fmt.Sprintf("%x%x%x%x%x", r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64(), i)
				names[i] = label[max(0, len(label)-o.label):] + "." + name
			}
		}
		results := make(chan string, len(names))
		each(names, o.parallel, func(n string) {
			code, _, _ := strings.Cut(p.question(server, n, typ, o), " ")
			results <- code
		})
		count := make(map[string]int)
		for range names {
			count[<-results]++
		}
		p.say("%s %d × %s %s: %v", server, o.count, name, typ, count)
	}
}

func (p *probe) question(server, name, typ string, o *dnsFlags) string {
	m := new(dns.Msg)
	code, ok := dns.StringToType[typ]
	if !ok {
		return "unknown type"
	}
	m.SetQuestion(dns.Fqdn(name), code)
	if o.edns > 0 {
		m.SetEdns0(uint16(o.edns), true)
	}
	c := &dns.Client{Timeout: min(p.timeout, 2*time.Second)}
	if o.tcp {
		c.Net = "tcp"
	}
	a, _, err := c.Exchange(m, server)
	if err != nil {
		return "error " + err.Error()
	}
	text := dns.RcodeToString[a.Rcode]
	for _, rr := range a.Answer {
		text += " " + strings.TrimPrefix(rr.String(), rr.Header().String())
	}
	return text
}

// packet sends bytes as they are.
func (p *probe) packet(server string, b []byte) string {
	c, err := net.Dial("udp", server)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	if _, err := c.Write(b); err != nil {
		return err.Error()
	}
	_ = c.SetReadDeadline(time.Now().Add(min(p.timeout, 50*time.Millisecond)))
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	switch {
	case err != nil:
		return "no answer"
	case n >= 4:
		return fmt.Sprintf("%s in %d bytes", dns.RcodeToString[int(buf[3]&15)], n)
	}
	return fmt.Sprintf("%d bytes", n)
}

// corpus sends malformed messages: loops and wild pointers, lying counts, set
// response bits, odd opcodes and classes, stumps.
func (p *probe) corpus(server string, o *dnsFlags) {
	r := rand.New(rand.NewPCG(o.seed, 3)) //nolint:gosec // reproducible on purpose
	count := make(map[string]int)
	for range o.corpus {
		m := new(dns.Msg)
		m.SetQuestion("corpus.test.", dns.TypeA)
		b, err := m.Pack()
		if err != nil {
			return
		}
		switch r.IntN(8) {
		case 0: // a pointer to itself
			b = append(b[:12], 0xc0, 12, 0, 1, 0, 1)
		case 1: // a pointer behind the end
			b = append(b[:12], 0xff, byte(r.IntN(256)), 0, 1, 0, 1)
		case 2:
			b[4], b[5] = byte(r.IntN(256)), byte(r.IntN(256)) // QDCOUNT
		case 3:
			b[2] |= 0x80 // a response
		case 4:
			b[2] = byte(r.IntN(16)) << 3 // opcode
		case 5:
			b[len(b)-1] = byte(r.IntN(256)) // class
		case 6:
			b = b[:1+r.IntN(len(b)-1)]
		default:
			b[12] = byte(r.IntN(256)) // length of the first label
		}
		answer, _, _ := strings.Cut(p.packet(server, b), " in ")
		count[answer]++
	}
	p.say("%s: %d malformed messages: %v", server, o.corpus, count)
}

// resolve asks as programs do.
func (p *probe) resolve(args []string) error {
	rest, err := parse(p.flags("resolve"), args, 1)
	if err != nil {
		return err
	}
	for _, name := range rest {
		ctx, cancel := context.WithTimeout(context.Background(), p.timeout)
		start := time.Now()
		addrs, err := net.DefaultResolver.LookupHost(ctx, name)
		cancel()
		p.say("%s: %v %v in %v", name, addrs, err, time.Since(start).Round(time.Millisecond))
	}
	return nil
}
