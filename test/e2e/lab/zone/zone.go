// Package zone is the script of the lab's resolver: one line a name.
//
//	allowed.test        A      10.200.0.100
//	*.allowed.test      A      10.200.0.100          any number of labels
//	two.allowed.test    A      10.0.0.1,10.200.0.100 both, in this order
//	flip.allowed.test   A      10.200.0.100 then 127.0.0.1   the first answer, then the next ones
//	six.allowed.test    AAAA   fd0a:c8::100
//	www.allowed.test    CNAME  blocked.test
//	gone.allowed.test   RCODE  NXDOMAIN              or SERVFAIL, REFUSED
//	mute.allowed.test   RCODE  SILENT                no answer at all
//	ill.allowed.test    A      !SERVFAIL then 10.200.0.100   an answer code among the turns
//
// Options at the end of a line: ttl=SECONDS (default 60), delay=DURATION,
// truncate (over UDP only), confuse (the answer has another id). A name with an address of one family has an empty
// answer for the other; a name that no line covers resolves to the sink.
package zone

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// Zone is a parsed script. Answer counts, so callers serialize it.
type Zone struct{ lines []*line }

type line struct {
	name    string
	kind    string // A, AAAA, CNAME, RCODE
	turns   [][]string
	next    int
	options Answer
	ttl     uint32
}

// Answer is what the resolver says.
type Answer struct {
	Rcode    int
	Silent   bool
	Truncate bool
	Confuse  bool
	Delay    time.Duration
	records  []record
}

type record struct {
	owner string // empty: the name that was asked
	kind  string
	value string
	ttl   uint32
}

// Parse reads a script. Text behind # is a comment.
func Parse(text string) (*Zone, error) {
	z := &Zone{}
	for i, raw := range strings.Split(text, "\n") {
		raw, _, _ = strings.Cut(raw, "#")
		fields := strings.Fields(raw)
		if len(fields) == 0 {
			continue
		}
		l, err := parseLine(fields)
		if err != nil {
			return nil, fmt.Errorf("zone:%d: %w", i+1, err)
		}
		z.lines = append(z.lines, l)
	}
	return z, nil
}

func parseLine(fields []string) (*line, error) {
	if len(fields) < 3 {
		return nil, fmt.Errorf("want NAME TYPE VALUE, got %q", strings.Join(fields, " "))
	}
	l := &line{name: strings.ToLower(strings.TrimSuffix(fields[0], ".")), kind: strings.ToUpper(fields[1]), ttl: 60}
	l.turns = [][]string{strings.Split(fields[2], ",")}
	rest := fields[3:]
	for len(rest) >= 2 && rest[0] == "then" {
		l.turns, rest = append(l.turns, strings.Split(rest[1], ",")), rest[2:]
	}
	for _, o := range rest {
		if err := l.option(o); err != nil {
			return nil, err
		}
	}
	return l, l.check()
}

func (l *line) option(o string) error {
	key, value, _ := strings.Cut(o, "=")
	var err error
	switch key {
	case "ttl":
		var n uint64
		n, err = strconv.ParseUint(value, 10, 32)
		l.ttl = uint32(n)
	case "delay":
		l.options.Delay, err = time.ParseDuration(value)
	case "truncate":
		l.options.Truncate = true
	case "confuse":
		l.options.Confuse = true
	default:
		err = fmt.Errorf("unknown option %q", o)
	}
	return err
}

func (l *line) check() error {
	for _, values := range l.turns {
		for _, v := range values {
			switch l.kind {
			case "A", "AAAA":
				if code, ok := strings.CutPrefix(v, "!"); ok {
					if _, known := dns.StringToRcode[code]; !known {
						return fmt.Errorf("unknown answer %q", v)
					}
					continue
				}
				if a, err := netip.ParseAddr(v); err != nil || a.Is4() != (l.kind == "A") {
					return fmt.Errorf("%q is no address for %s", v, l.kind)
				}
			case "RCODE":
				if _, ok := dns.StringToRcode[v]; !ok && v != "SILENT" {
					return fmt.Errorf("unknown answer %q", v)
				}
			case "CNAME":
			default:
				return fmt.Errorf("unknown type %q", l.kind)
			}
		}
	}
	return nil
}

// maxChain ends loops of CNAMEs.
const maxChain = 16

// Answer answers a question.
func (z *Zone) Answer(name string, qtype uint16) Answer {
	var a Answer
	owner := ""
	for range maxChain {
		lines := z.find(name)
		if len(lines) == 0 {
			a.sink(owner, qtype)
			return a
		}
		target := ""
		for _, l := range lines {
			target = l.add(&a, owner, qtype)
			if target != "" {
				break
			}
		}
		if target == "" {
			return a
		}
		owner, name = target, target
	}
	return a
}

// find returns the lines of a name: its own, or those of the closest wildcard.
func (z *Zone) find(name string) []*line {
	for pattern := name; ; {
		var found []*line
		for _, l := range z.lines {
			if l.name == pattern {
				found = append(found, l)
			}
		}
		if len(found) > 0 {
			return found
		}
		rest, ok := strings.CutPrefix(pattern, "*.")
		if !ok {
			rest = pattern
		}
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			return nil
		}
		pattern = "*." + parent
	}
}

// add applies a line; it returns the name that a CNAME leads to.
func (l *line) add(a *Answer, owner string, qtype uint16) string {
	a.Delay, a.Truncate = max(a.Delay, l.options.Delay), a.Truncate || l.options.Truncate
	a.Confuse = a.Confuse || l.options.Confuse
	matches := l.kind == dns.TypeToString[qtype]
	if l.kind != "RCODE" && l.kind != "CNAME" && !matches {
		return ""
	}
	values := l.turns[l.next]
	l.next = min(l.next+1, len(l.turns)-1)
	switch l.kind {
	case "RCODE":
		a.Silent = values[0] == "SILENT"
		a.Rcode = dns.StringToRcode[values[0]]
	case "CNAME":
		a.records = append(a.records, record{owner, l.kind, values[0], l.ttl})
		return strings.ToLower(values[0])
	default:
		for _, v := range values {
			if code, ok := strings.CutPrefix(v, "!"); ok {
				a.Rcode = dns.StringToRcode[code]
				continue
			}
			a.records = append(a.records, record{owner, l.kind, v, l.ttl})
		}
	}
	return ""
}

func (a *Answer) sink(owner string, qtype uint16) {
	switch qtype {
	case dns.TypeA:
		a.records = append(a.records, record{owner, "A", wire.Sink, 60})
	case dns.TypeAAAA:
		a.records = append(a.records, record{owner, "AAAA", wire.Sink6, 60})
	}
}

// Records are the answer section.
func (a Answer) Records(asked string) []dns.RR {
	var list []dns.RR
	for _, r := range a.records {
		owner := asked
		if r.owner != "" {
			owner = dns.Fqdn(r.owner)
		}
		h := dns.RR_Header{Name: owner, Class: dns.ClassINET, Ttl: r.ttl, Rrtype: dns.StringToType[r.kind]}
		switch r.kind {
		case "A":
			list = append(list, &dns.A{Hdr: h, A: net.ParseIP(r.value)})
		case "AAAA":
			list = append(list, &dns.AAAA{Hdr: h, AAAA: net.ParseIP(r.value)})
		case "CNAME":
			list = append(list, &dns.CNAME{Hdr: h, Target: dns.Fqdn(r.value)})
		}
	}
	return list
}
