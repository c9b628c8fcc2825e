package nameserver

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

const (
	headerLen = 12
	// ttl is short enough to be harmless and long enough to be of use; the
	// addresses themselves stay for the life of the cage.
	ttl = 60
	// udpSize is the largest answer over UDP, whatever the asker takes.
	udpSize = 1232
)

// answer returns the reply to a query of who, nil for none, and what to record.
func (s *Server) answer(query []byte, who asker, tcp bool) ([]byte, event.DNS) {
	malformed := event.DNS{Reason: event.InvalidRequest}
	if len(query) < headerLen || query[2]&0x80 != 0 {
		return nil, malformed // not a query: an answer could start a loop
	}
	if opcode := query[2] >> 3 & 0xf; opcode != dns.OpcodeQuery {
		return bare(query, dns.RcodeNotImplemented), malformed
	}
	var q dns.Msg
	if !plausible(query) || q.Unpack(query) != nil || !whole(&q, query) {
		return bare(query, dns.RcodeFormatError), malformed
	}
	opt, ok := edns(&q)
	if !ok {
		return bare(query, dns.RcodeFormatError), malformed
	}
	r := reply(&q)
	limit := dns.MinMsgSize
	if opt != nil {
		r.SetEdns0(udpSize, opt.Do())
		limit = int(min(max(opt.UDPSize(), dns.MinMsgSize), udpSize))
	}
	if tcp {
		limit = dns.MaxMsgSize
	}
	rec := s.fill(r, q.Question[0], opt, who.step)
	return pack(r, limit), rec
}

// plausible checks the counts of a header, so that a lie about them costs no work.
func plausible(query []byte) bool {
	// One question; an IXFR has one authority record; EDNS and TSIG are additional.
	return count(query, 4) == 1 && count(query, 6) == 0 && count(query, 8) <= 1 && count(query, 10) <= 2
}

// whole says that q is all that its header announced: Unpack takes a message
// that stops short between two fields.
func whole(q *dns.Msg, query []byte) bool {
	return len(q.Question) == 1 && q.Question[0].Qtype != 0 && q.Question[0].Qclass != 0 &&
		len(q.Ns) == count(query, 8) && len(q.Extra) == count(query, 10)
}

func count(query []byte, at int) int { return int(binary.BigEndian.Uint16(query[at:])) }

// edns returns the OPT record of q, nil when there is none. ok is false when
// there are two or it stands where it must not.
func edns(q *dns.Msg) (opt *dns.OPT, ok bool) {
	for _, rr := range q.Extra {
		o, is := rr.(*dns.OPT)
		if !is {
			continue
		}
		if opt != nil || o.Hdr.Name != "." {
			return nil, false
		}
		opt = o
	}
	for _, rr := range q.Ns {
		if rr.Header().Rrtype == dns.TypeOPT {
			return nil, false
		}
	}
	return opt, true
}

func reply(q *dns.Msg) *dns.Msg {
	r := new(dns.Msg)
	r.Id, r.Response, r.RecursionAvailable = q.Id, true, true
	r.RecursionDesired, r.CheckingDisabled = q.RecursionDesired, q.CheckingDisabled
	r.Question = q.Question
	r.Compress = true
	return r
}

// fill decides.
func (s *Server) fill(r *dns.Msg, q dns.Question, opt *dns.OPT, step string) event.DNS {
	name, legal := policy.CanonicalName(q.Name)
	rec := event.DNS{Name: name, Type: dns.Type(q.Qtype).String()}
	if !legal {
		rec.Name = escape(q.Name)
	}
	refuse := func(rcode int) event.DNS {
		r.Rcode, rec.Reason = rcode, event.DNSRefused
		return rec
	}
	switch {
	case opt != nil && opt.Version() != 0:
		return refuse(dns.RcodeBadVers)
	case q.Qclass != dns.ClassINET, step == UnknownStep:
		return refuse(dns.RcodeRefused)
	}
	switch q.Qtype {
	case dns.TypeAXFR, dns.TypeIXFR, dns.TypeMAILA, dns.TypeMAILB, dns.TypeOPT, dns.TypeTSIG, dns.TypeTKEY:
		return refuse(dns.RcodeRefused)
	case dns.TypePTR:
		r.Rcode = dns.RcodeNameError
		negative(r)
		return rec
	}
	switch {
	case q.Name == ".": // exists, and has nothing
		negative(r)
		return rec
	case !legal, under(name, "invalid"):
		r.Rcode = dns.RcodeNameError
		negative(r)
		return rec
	}
	return s.resolve(r, q, name, step, rec)
}

// resolve answers for a host name.
func (s *Server) resolve(r *dns.Msg, q dns.Question, name, step string, rec event.DNS) event.DNS {
	hdr := dns.RR_Header{Name: q.Name, Rrtype: q.Qtype, Class: dns.ClassINET, Ttl: ttl}
	switch {
	case q.Qtype == dns.TypeANY: // RFC 8482
		hdr.Rrtype = dns.TypeHINFO
		r.Answer = []dns.RR{&dns.HINFO{Hdr: hdr, Cpu: "RFC8482"}}
		return rec
	case q.Qtype != dns.TypeA && (q.Qtype != dns.TypeAAAA || !s.IPv6):
		negative(r)
		return rec
	}
	v4, v6, ok := s.addrs(step, name)
	if !ok {
		// Not SERVFAIL, on which some resolvers ask again.
		r.Rcode, rec.Reason = dns.RcodeRefused, event.Overload
		explain(r, s.Pool.shortage())
		return rec
	}
	if q.Qtype == dns.TypeA {
		rec.Answer = v4
		r.Answer = []dns.RR{&dns.A{Hdr: hdr, A: v4.AsSlice()}}
	} else {
		rec.Answer = v6
		r.Answer = []dns.RR{&dns.AAAA{Hdr: hdr, AAAA: v6.AsSlice()}}
	}
	return rec
}

func (s *Server) addrs(step, name string) (v4, v6 netip.Addr, ok bool) {
	if under(name, "localhost") { // RFC 6761
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(), true
	}
	return s.Pool.Assign(step, name)
}

// under says that a canonical name is domain or below it.
func under(name, domain string) bool {
	head, ok := strings.CutSuffix(name, domain)
	return ok && (head == "" || strings.HasSuffix(head, "."))
}

// negative adds the SOA record without which resolvers don't cache a no.
func negative(r *dns.Msg) {
	r.Ns = []dns.RR{&dns.SOA{
		Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: ttl},
		Ns:  "buildcage.invalid.", Mbox: "nobody.invalid.",
		Serial: 1, Refresh: 3600, Retry: 600, Expire: 86400, Minttl: ttl,
	}}
}

// explain adds an extended error (RFC 8914) for whoever reads it.
func explain(r *dns.Msg, text string) {
	if opt := r.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: dns.ExtendedErrorCodeProhibited, ExtraText: text})
	}
}

// pack returns r in at most limit bytes: cut to its question where it is longer.
func pack(r *dns.Msg, limit int) []byte {
	b, err := r.Pack()
	if err == nil && len(b) <= limit {
		return b
	}
	r.Answer, r.Ns, r.Extra, r.Truncated = nil, nil, nil, err == nil
	if err != nil {
		r.Rcode = dns.RcodeServerFailure
	}
	if b, err = r.Pack(); err != nil || len(b) > limit {
		return nil
	}
	return b
}

// bare is a reply without a question, for queries that can't be understood.
func bare(query []byte, rcode int) []byte {
	b := make([]byte, headerLen)
	copy(b, query[:4])
	b[2] = b[2]&0x79 | 0x80 // opcode and RD stay, QR is set
	b[3] = 0x80 | byte(rcode)
	return b
}

// escape is the recorded form of a name that is no host name: whatever has a
// backslash in its presentation form gets event's escape, dots in labels too.
func escape(name string) string {
	if name != "." {
		name = strings.TrimSuffix(name, ".")
	}
	var b strings.Builder
	for i := 0; i < len(name); i++ {
		if name[i] == '\\' && i+1 < len(name) {
			i++
			c := name[i]
			if d := name[i:]; len(d) >= 3 && strings.Trim(d[:3], "0123456789") == "" {
				c = (d[0]-'0')*100 + (d[1]-'0')*10 + (d[2] - '0')
				i += 2
			}
			fmt.Fprintf(&b, `\x%02x`, c)
			continue
		}
		b.WriteString(event.Escape(name[i : i+1]))
	}
	return b.String()
}
