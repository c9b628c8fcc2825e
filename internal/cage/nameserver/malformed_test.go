package nameserver

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/buildcage/buildcage/internal/event"
)

// header makes a query by hand.
func header(flags uint16, counts [4]uint16, body string) []byte {
	b := binary.BigEndian.AppendUint16(nil, 4711)
	b = binary.BigEndian.AppendUint16(b, flags)
	for _, c := range counts {
		b = binary.BigEndian.AppendUint16(b, c)
	}
	return append(b, body...)
}

const inA = "\x00\x01\x00\x01" // type A, class IN

func TestMalformed(t *testing.T) {
	one := [4]uint16{1}
	good := "\x04pypi\x03org\x00" + inA
	for _, tt := range []struct {
		name, want string
		query      []byte
	}{
		{"good", "NOERROR 198.18.0.2", header(0x100, one, good)},
		{"nothing", "ignored", nil},
		{"one byte", "ignored", []byte{0}},
		{"eleven bytes", "ignored", make([]byte, 11)},
		{"header only", "FORMERR", header(0x100, one, "")},
		{"header of zeros", "FORMERR", make([]byte, 12)},
		{"response", "ignored", header(0x8100, one, good)},
		{"NOTIFY", "NOTIMP", header(4<<11, one, good)},
		{"UPDATE", "NOTIMP", header(5<<11, one, good)},
		{"STATUS", "NOTIMP", header(2<<11, one, good)},
		{"IQUERY", "NOTIMP", header(1<<11, one, good)},
		{"opcode 15", "NOTIMP", header(15<<11, one, good)},
		{"class CH", "REFUSED", header(0x100, one, "\x07version\x04bind\x00\x00\x10\x00\x03")},
		{"class ANY", "REFUSED", header(0x100, one, "\x04pypi\x03org\x00\x00\x01\x00\xff")},
		{"class NONE", "REFUSED", header(0x100, one, "\x04pypi\x03org\x00\x00\x01\x00\xfe")},
		{"no question", "FORMERR", header(0x100, [4]uint16{}, good)},
		{"two questions", "FORMERR", header(0x100, [4]uint16{2}, good+good)},
		{"65535 questions", "FORMERR", header(0x100, [4]uint16{65535}, good)},
		{"an answer", "FORMERR", header(0x100, [4]uint16{1, 1}, good+"\xc0\x0c"+inA+"\x00\x00\x00\x00\x00\x04abcd")},
		{"65535 of all", "FORMERR", header(0x100, [4]uint16{65535, 65535, 65535, 65535}, good)},
		{"additional missing", "FORMERR", header(0x100, [4]uint16{1, 0, 0, 1}, good)},
		{"pointer to itself", "FORMERR", header(0x100, one, "\xc0\x0c"+inA)},
		{"pointers in a circle", "FORMERR", header(0x100, one, "\xc0\x0e\xc0\x0c"+inA)},
		{"pointer forward", "FORMERR", header(0x100, one, "\xc0\x20"+inA)},
		{"pointer out of range", "FORMERR", header(0x100, one, "\xff\xff"+inA)},
		{"half a pointer", "FORMERR", header(0x100, one, "\xc0")},
		{"reserved label 0x40", "FORMERR", header(0x100, one, "\x41a\x00"+inA)},
		{"reserved label 0x80", "FORMERR", header(0x100, one, "\x81a\x00"+inA)},
		{"label without end", "FORMERR", header(0x100, one, "\x3fabc")},
		{"no type", "FORMERR", header(0x100, one, "\x04pypi\x03org\x00")},
		{"256 bytes", "FORMERR", header(0x100, one, strings.Repeat("\x3f"+strings.Repeat("a", 63), 4)+"\x00"+inA)},
		{"129 labels", "FORMERR", header(0x100, one, strings.Repeat("\x01a", 129)+"\x00"+inA)},
		{"binary label", "NXDOMAIN SOA", header(0x100, one, "\x03\x00\xff\x1b\x03com\x00"+inA)},
		{"label with a dot", "NXDOMAIN SOA", header(0x100, one, "\x03a.b\x03com\x00"+inA)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, rec := asked(t, server(), tt.query, asker{step: "s1"})
			if got != tt.want {
				t.Errorf("answer %q, want %q", got, tt.want)
			}
			if bad := got == "ignored" || got == "FORMERR" || got == "NOTIMP"; bad != (rec.Reason == event.InvalidRequest) {
				t.Errorf("record %+v", rec)
			}
		})
	}
}

// TestCorpus damages good queries with a fixed seed.
func TestCorpus(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	s := server()
	for i := range 20_000 {
		m := query(fmt.Sprintf("%d.example.com.", i%50), uint16(rnd.IntN(300)))
		if i%2 == 0 {
			m.SetEdns0(uint16(rnd.IntN(1<<16)), i%4 == 0)
		}
		b := packed(t, m)
		for range 1 + rnd.IntN(4) {
			b[rnd.IntN(len(b))] = byte(rnd.IntN(256))
		}
		checkAnswer(t, s, b[:rnd.IntN(len(b)+1)])
		checkAnswer(t, s, b)
	}
	if got, _ := asked(t, server(), packed(t, query("pypi.org.", dns.TypeA)), asker{step: "s1"}); got != "NOERROR 198.18.0.2" {
		t.Errorf("afterwards: %q", got)
	}
}

// checkAnswer states what holds for every query.
func checkAnswer(t *testing.T, s *Server, q []byte) {
	t.Helper()
	before := bytes.Clone(q)
	for _, tcp := range []bool{false, true} {
		b, rec := s.answer(q, asker{step: "s1"}, tcp)
		if !event.Printable(rec.Name) || !event.Printable(rec.Type) {
			t.Fatalf("%x: record %+v is not printable", q, rec)
		}
		if !bytes.Equal(before, q) {
			t.Fatalf("%x: query was changed", before)
		}
		if b == nil {
			continue
		}
		var r dns.Msg
		if err := r.Unpack(b); err != nil {
			t.Fatalf("%x: answer %x does not parse: %v", q, b, err)
		}
		if !r.Response || r.Id != binary.BigEndian.Uint16(q) {
			t.Fatalf("%x: answer with id %d, response %v", q, r.Id, r.Response)
		}
		if limit := allowed(q); !tcp && len(b) > limit {
			t.Fatalf("%x: answer of %d bytes, allowed %d", q, len(b), limit)
		}
		if len(r.Answer) > 1 || r.Authoritative {
			t.Fatalf("%x: answer %v", q, r)
		}
	}
}

func allowed(q []byte) int {
	var m dns.Msg
	if m.Unpack(q) != nil || m.IsEdns0() == nil {
		return dns.MinMsgSize
	}
	return max(dns.MinMsgSize, int(m.IsEdns0().UDPSize()))
}

func FuzzAnswer(f *testing.F) {
	m := query("pypi.org.", dns.TypeA)
	f.Add(packed(f, m))
	f.Add(packed(f, m.SetEdns0(4096, true)))
	f.Add(packed(f, query(`a\.b\010.example.com.`, dns.TypeHTTPS)))
	f.Add(header(0x100, [4]uint16{1}, "\xc0\x0c"+inA))
	f.Fuzz(func(t *testing.T, q []byte) { checkAnswer(t, server(), q) })
}
