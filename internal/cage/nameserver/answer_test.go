package nameserver

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/event"
)

var stepAddr = netip.MustParseAddr("127.0.0.1")

// server knows one step, s1, at stepAddr.
func server() *Server {
	s := &Server{Pool: &Pool{}, Steps: &step.Table{}, Record: func(event.Record) {}, IPv6: true}
	s.Steps.Register(&step.Step{Step: event.Step{ID: "s1", Addrs: []netip.Addr{stepAddr}}})
	return s
}

func query(name string, typ uint16) *dns.Msg {
	m := new(dns.Msg).SetQuestion(name, typ)
	m.Id = 4711
	return m
}

func packed(t testing.TB, m *dns.Msg) []byte {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// asked returns the answer in short: rcode, then the records, then EDNS.
func asked(t testing.TB, s *Server, q []byte, who asker) (string, event.DNS) {
	t.Helper()
	b, rec := s.answer(q, who, false)
	if b == nil {
		return "ignored", rec
	}
	var m dns.Msg
	if err := m.Unpack(b); err != nil {
		t.Fatalf("the answer does not parse: %v", err)
	}
	out := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			out = append(out, rr.A.String())
		case *dns.AAAA:
			out = append(out, rr.AAAA.String())
		default:
			out = append(out, dns.TypeToString[rr.Header().Rrtype])
		}
	}
	for _, rr := range m.Ns {
		out = append(out, dns.TypeToString[rr.Header().Rrtype])
	}
	if m.Truncated {
		out = append(out, "TC")
	}
	return strings.Join(out, " "), rec
}

func TestAnswers(t *testing.T) {
	const (
		v4, v6   = "NOERROR 198.18.0.2", "NOERROR fd62:7569:6c64:18::2"
		nodata   = "NOERROR SOA"
		nxdomain = "NXDOMAIN SOA"
		refused  = "REFUSED"
	)
	long := strings.Repeat("a", 63)
	for _, tt := range []struct {
		name string
		typ  uint16
		want string
		rec  event.DNS
	}{
		{"pypi.org.", dns.TypeA, v4, event.DNS{Name: "pypi.org", Type: "A", Answer: netip.MustParseAddr("198.18.0.2")}},
		{"pypi.org.", dns.TypeAAAA, v6, event.DNS{Name: "pypi.org", Type: "AAAA", Answer: netip.MustParseAddr("fd62:7569:6c64:18::2")}},
		{"PyPI.org.", dns.TypeA, v4, event.DNS{Name: "pypi.org", Type: "A", Answer: netip.MustParseAddr("198.18.0.2")}},
		{"printer.local.", dns.TypeA, v4, event.DNS{Name: "printer.local", Type: "A", Answer: netip.MustParseAddr("198.18.0.2")}},
		{"metadata.internal.", dns.TypeA, v4, event.DNS{Name: "metadata.internal", Type: "A", Answer: netip.MustParseAddr("198.18.0.2")}},
		{"host.docker.internal.", dns.TypeA, v4, event.DNS{Name: "host.docker.internal", Type: "A", Answer: netip.MustParseAddr("198.18.0.2")}},
		{"db.", dns.TypeA, v4, event.DNS{Name: "db", Type: "A", Answer: netip.MustParseAddr("198.18.0.2")}},
		{"_http._tcp.example.com.", dns.TypeSRV, nodata, event.DNS{Name: "_http._tcp.example.com", Type: "SRV"}},
		{"pypi.org.", dns.TypeTXT, nodata, event.DNS{Name: "pypi.org", Type: "TXT"}},
		{"pypi.org.", dns.TypeNULL, nodata, event.DNS{Name: "pypi.org", Type: "NULL"}},
		{"pypi.org.", dns.TypeHTTPS, nodata, event.DNS{Name: "pypi.org", Type: "HTTPS"}},
		{"pypi.org.", dns.TypeSVCB, nodata, event.DNS{Name: "pypi.org", Type: "SVCB"}},
		{"pypi.org.", dns.TypeMX, nodata, event.DNS{Name: "pypi.org", Type: "MX"}},
		{"pypi.org.", dns.TypeCAA, nodata, event.DNS{Name: "pypi.org", Type: "CAA"}},
		{"pypi.org.", dns.TypeNAPTR, nodata, event.DNS{Name: "pypi.org", Type: "NAPTR"}},
		{"pypi.org.", dns.TypeURI, nodata, event.DNS{Name: "pypi.org", Type: "URI"}},
		{"pypi.org.", dns.TypeNS, nodata, event.DNS{Name: "pypi.org", Type: "NS"}},
		{"pypi.org.", dns.TypeSOA, nodata, event.DNS{Name: "pypi.org", Type: "SOA"}},
		{"pypi.org.", dns.TypeCNAME, nodata, event.DNS{Name: "pypi.org", Type: "CNAME"}},
		{"pypi.org.", dns.TypeDNSKEY, nodata, event.DNS{Name: "pypi.org", Type: "DNSKEY"}},
		{"pypi.org.", 65280, nodata, event.DNS{Name: "pypi.org", Type: "TYPE65280"}},
		{"pypi.org.", dns.TypeANY, "NOERROR HINFO", event.DNS{Name: "pypi.org", Type: "ANY"}},
		{"pypi.org.", dns.TypeAXFR, refused, event.DNS{Name: "pypi.org", Type: "AXFR", Reason: event.DNSRefused}},
		{"pypi.org.", dns.TypeIXFR, refused, event.DNS{Name: "pypi.org", Type: "IXFR", Reason: event.DNSRefused}},
		{"1.2.0.192.in-addr.arpa.", dns.TypePTR, nxdomain, event.DNS{Name: "1.2.0.192.in-addr.arpa", Type: "PTR"}},
		{"b.a.ip6.arpa.", dns.TypePTR, nxdomain, event.DNS{Name: "b.a.ip6.arpa", Type: "PTR"}},
		{"localhost.", dns.TypeA, "NOERROR 127.0.0.1", event.DNS{Name: "localhost", Type: "A", Answer: netip.MustParseAddr("127.0.0.1")}},
		{"a.LocalHost.", dns.TypeAAAA, "NOERROR ::1", event.DNS{Name: "a.localhost", Type: "AAAA", Answer: netip.MustParseAddr("::1")}},
		{"notlocalhost.", dns.TypeA, v4, event.DNS{Name: "notlocalhost", Type: "A", Answer: netip.MustParseAddr("198.18.0.2")}},
		{"x.invalid.", dns.TypeA, nxdomain, event.DNS{Name: "x.invalid", Type: "A"}},
		{"192.0.2.1.", dns.TypeA, nxdomain, event.DNS{Name: "192.0.2.1", Type: "A"}},
		{"0x7f000001.", dns.TypeA, nxdomain, event.DNS{Name: "0x7f000001", Type: "A"}},
		{`a\032b.example.com.`, dns.TypeA, nxdomain, event.DNS{Name: `a\x20b.example.com`, Type: "A"}},
		{`a\010b\255.example.com.`, dns.TypeA, nxdomain, event.DNS{Name: `a\x0ab\xff.example.com`, Type: "A"}},
		{`a\.b.example.com.`, dns.TypeA, nxdomain, event.DNS{Name: `a\x2eb.example.com`, Type: "A"}},
		{"*.example.com.", dns.TypeTXT, nxdomain, event.DNS{Name: "*.example.com", Type: "TXT"}},
		{"-a.example.com.", dns.TypeA, nxdomain, event.DNS{Name: "-a.example.com", Type: "A"}},
		{long + ".example.com.", dns.TypeA, v4, event.DNS{Name: long + ".example.com", Type: "A", Answer: netip.MustParseAddr("198.18.0.2")}},
		{".", dns.TypeNS, nodata, event.DNS{Name: ".", Type: "NS"}},
		{".", dns.TypeA, nodata, event.DNS{Name: ".", Type: "A"}},
	} {
		t.Run(tt.name+" "+dns.Type(tt.typ).String(), func(t *testing.T) {
			got, rec := asked(t, server(), packed(t, query(tt.name, tt.typ)), asker{step: "s1"})
			if got != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
			if diff := cmp.Diff(tt.rec, rec, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAnswerKeepsQuestion(t *testing.T) {
	m := query("PyPI.oRg.", dns.TypeA)
	m.CheckingDisabled = true
	b, _ := server().answer(packed(t, m), asker{step: "s1"}, false)
	var r dns.Msg
	if err := r.Unpack(b); err != nil {
		t.Fatal(err)
	}
	want := dns.MsgHdr{Id: 4711, Response: true, RecursionDesired: true, RecursionAvailable: true, CheckingDisabled: true}
	if diff := cmp.Diff(want, r.MsgHdr); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(m.Question, r.Question); diff != "" {
		t.Error(diff)
	}
	if h := r.Answer[0].Header(); h.Name != "PyPI.oRg." || h.Ttl != ttl {
		t.Errorf("answer for %s, ttl %d", h.Name, h.Ttl)
	}
}

func TestWithoutIPv6(t *testing.T) {
	s := server()
	s.IPv6 = false
	for _, name := range []string{"pypi.org.", "localhost."} {
		if got, _ := asked(t, s, packed(t, query(name, dns.TypeAAAA)), asker{step: "s1"}); got != "NOERROR SOA" {
			t.Errorf("%s: answer %q", name, got)
		}
	}
}

func TestUnknownStep(t *testing.T) {
	s := server()
	got, rec := asked(t, s, packed(t, query("pypi.org.", dns.TypeA)), s.asker(netip.MustParseAddr("192.0.2.1")))
	if got != "REFUSED" || rec.Reason != event.DNSRefused {
		t.Errorf("answer %q, record %+v", got, rec)
	}
	if _, _, ok := s.Pool.Addr("pypi.org"); ok {
		t.Error("an unknown step took an address")
	}
}

// A step that has asked for too many names, and a cage that has no addresses
// left, refuse new ones at once, say which it was, and record it. Names that are
// known go on.
func TestExhausted(t *testing.T) {
	for want, set := range map[string]func(*Pool){
		"too many names in one build step": func(p *Pool) { p.PerStep = 1 },
		"the cage has no addresses left for new names; it has them again when nobody builds in it": func(p *Pool) { p.Size = 1 },
	} {
		s := server()
		set(s.Pool)
		who := asker{step: "s1"}
		asked(t, s, packed(t, query("a.example.com.", dns.TypeA)), who)
		m := query("b.example.com.", dns.TypeAAAA)
		m.SetEdns0(1232, true)
		got, rec := asked(t, s, packed(t, m), who)
		if got != "REFUSED" || rec.Reason != event.Overload || rec.Name != "b.example.com" {
			t.Errorf("answer %q, record %+v", got, rec)
		}
		reply := new(dns.Msg)
		said, _ := s.answer(packed(t, m), who, false)
		if err := reply.Unpack(said); err != nil {
			t.Fatal(err)
		}
		if opt := reply.IsEdns0(); opt == nil || len(opt.Option) != 1 || opt.Option[0].(*dns.EDNS0_EDE).ExtraText != want {
			t.Errorf("the reply says %v, want %q", opt, want)
		}
		if got, _ := asked(t, s, packed(t, query("a.example.com.", dns.TypeA)), who); got != "NOERROR 198.18.0.2" {
			t.Errorf("known name: answer %q", got)
		}
	}
}

func TestEDNS(t *testing.T) {
	for _, tt := range []struct {
		name  string
		build func(*dns.Msg)
		want  string
		opt   bool
	}{
		{"none", func(*dns.Msg) {}, "NOERROR 198.18.0.2", false},
		{"plain", func(m *dns.Msg) { m.SetEdns0(4096, false) }, "NOERROR 198.18.0.2", true},
		{"65535", func(m *dns.Msg) { m.SetEdns0(65535, true) }, "NOERROR 198.18.0.2", true},
		{"size 0", func(m *dns.Msg) { m.SetEdns0(0, false) }, "NOERROR 198.18.0.2", true},
		{"version 1", func(m *dns.Msg) { m.SetEdns0(4096, false).IsEdns0().SetVersion(1) }, dns.RcodeToString[dns.RcodeBadVers], true},
		{"two", func(m *dns.Msg) { m.SetEdns0(4096, false); m.Extra = append(m.Extra, m.Extra[0]) }, "FORMERR", false},
		{"misplaced", func(m *dns.Msg) { m.SetEdns0(4096, false); m.Ns, m.Extra = m.Extra, nil }, "FORMERR", false},
		{"named", func(m *dns.Msg) { m.SetEdns0(4096, false).IsEdns0().Hdr.Name = "a." }, "FORMERR", false},
		{"options", func(m *dns.Msg) {
			o := m.SetEdns0(4096, true).IsEdns0()
			o.Option = append(o.Option, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "24a5ac1223344556"},
				&dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: 24, Address: []byte{192, 0, 2, 0}},
				&dns.EDNS0_PADDING{Padding: make([]byte, 300)}, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("secret")})
		}, "NOERROR 198.18.0.2", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := query("pypi.org.", dns.TypeA)
			tt.build(m)
			q := packed(t, m)
			if got, _ := asked(t, server(), q, asker{step: "s1"}); got != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
			b, _ := server().answer(q, asker{step: "s1"}, false)
			var r dns.Msg
			if err := r.Unpack(b); err != nil {
				t.Fatal(err)
			}
			opt := r.IsEdns0()
			if (opt != nil) != tt.opt {
				t.Fatalf("OPT in the answer: %v", opt)
			}
			if opt != nil && (opt.Version() != 0 || opt.UDPSize() != udpSize || opt.Do() != m.IsEdns0().Do() || len(opt.Option) != 0) {
				t.Errorf("OPT %v", opt)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	label := strings.Repeat("a", 63) + "."
	for _, tt := range []struct {
		name, want string
	}{
		{strings.Repeat(label, 3) + strings.Repeat("a", 61) + ".", "NOERROR 198.18.0.2"}, // 255 on the wire
		{strings.Repeat("a.", 127), "NOERROR 198.18.0.2"},
	} {
		for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT, dns.TypeANY} {
			b, _ := server().answer(packed(t, query(tt.name, typ)), asker{step: "s1"}, false)
			var r dns.Msg
			if err := r.Unpack(b); err != nil || r.Truncated || len(b) > dns.MinMsgSize {
				t.Errorf("%s: %d bytes, truncated %v, %v", dns.TypeToString[typ], len(b), r.Truncated, err)
			}
		}
		if got, _ := asked(t, server(), packed(t, query(tt.name, dns.TypeA)), asker{step: "s1"}); got != tt.want {
			t.Errorf("%d bytes: answer %q", len(tt.name), got)
		}
	}
}

func BenchmarkAnswer(b *testing.B) {
	s := server()
	q := packed(b, query("pypi.org.", dns.TypeA).SetEdns0(1232, false))
	for b.Loop() {
		s.answer(q, asker{step: "s1"}, false)
	}
}
