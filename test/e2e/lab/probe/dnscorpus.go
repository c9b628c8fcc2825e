package main

import (
	"encoding/binary"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// query is a question in wire form; the name comes as it is.
func query(name []byte, extra ...[]byte) []byte {
	b := []byte{0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, byte(len(extra))}
	b = append(append(b, name...), 0, 1, 0, 1)
	for _, e := range extra {
		b = append(b, e...)
	}
	return b
}

// labels is a name of labels of these lengths, without its end.
func labels(lengths ...int) []byte {
	var b []byte
	for _, n := range lengths {
		b = append(append(b, byte(n)), strings.Repeat("a", n&63)...)
	}
	return b
}

func end(b []byte) []byte { return append(b, 0) }

func repeat(n, times int) []int {
	list := make([]int, times)
	for i := range list {
		list[i] = n
	}
	return list
}

type packet struct {
	name string
	b    []byte
}

// limits are names at and beyond what the protocol allows.
func limits() []packet {
	wild := append([]byte{8}, "\x00\xff\x1b[2J\r\n"...)
	return []packet{
		{"label of 63", query(end(labels(63)))},
		{"label of 64", query(end(append([]byte{64}, strings.Repeat("a", 64)...)))},
		{"label of 128", query(end(append([]byte{128}, strings.Repeat("a", 128)...)))},
		{"127 labels", query(end(labels(repeat(1, 127)...)))},
		{"128 labels", query(end(labels(repeat(1, 128)...)))},
		{"name of 255", query(end(labels(63, 63, 63, 61)))},
		{"name of 256", query(end(labels(63, 63, 63, 62)))},
		{"name of 512", query(end(labels(repeat(63, 8)...)))},
		{"binary label", query(end(wild))},
		{"every byte", query(end(append(append([]byte{63}, ascending(0, 63)...), append([]byte{63}, ascending(192, 63)...)...)))},
		{"dot in a label", query(end(append([]byte{3}, "a.b"...)))},
		{"empty label in the middle", query(append(append(labels(3), 0), end(labels(3))...))},
		{"no end", query(labels(3, 3))},
		{"root", query([]byte{0})},
		{"spaces", query(end(append([]byte{5}, "a b c"...)))},
		{"underscore", query(end(append([]byte{5}, "_http"...)))},
	}
}

func ascending(from, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(from + i)
	}
	return b
}

// opt is an OPT record.
func opt(size uint16, version byte, options ...byte) []byte {
	b := binary.BigEndian.AppendUint16([]byte{0}, dns.TypeOPT)
	b = binary.BigEndian.AppendUint16(b, size)
	b = append(b, 0, version, 0x80, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(options)))
	return append(b, options...)
}

func option(code uint16, value ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, code)
	b = binary.BigEndian.AppendUint16(b, uint16(len(value)))
	return append(b, value...)
}

// ednsVariants are what EDNS allows and what it does not.
func ednsVariants() []packet {
	name := append(append(labels(), 4), "edns"...)
	name = end(append(append(name, 4), "test"...))
	subnet := option(8, 0, 1, 24, 0, 10, 200, 0)
	return []packet{
		{"size 65535", query(name, opt(65535, 0))},
		{"size 0", query(name, opt(0, 0))},
		{"version 1", query(name, opt(1232, 1))},
		{"version 255", query(name, opt(1232, 255))},
		{"unknown option", query(name, opt(1232, 0, option(65001, ascending(0, 64)...)...))},
		{"client subnet", query(name, opt(1232, 0, subnet...))},
		{"broken client subnet", query(name, opt(1232, 0, option(8, 0, 9, 255, 255)...))},
		{"cookie", query(name, opt(1232, 0, option(10, ascending(0, 8)...)...))},
		{"padding", query(name, opt(1232, 0, option(12, make([]byte, 400)...)...))},
		{"option that lies", query(name, opt(1232, 0, 0, 12, 0xff, 0xff, 1))},
		{"two OPT records", query(name, opt(1232, 0), opt(1232, 0))},
		{"OPT with a name", query(name, append(labels(3), opt(1232, 0)...))},
	}
}

// each of a list is sent alone, and told of.
func (p *probe) packets(server string, list []packet) {
	for _, m := range list {
		p.say("%s %s: %s", server, m.name, p.packet(server, m.b))
	}
}

// queries asks n questions for names below domain, each for another one, from
// a few sockets, and waits for no answer.
func (p *probe) queries(domain string, n, sockets int) error {
	config, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil {
		return err
	}
	server := net.JoinHostPort(config.Servers[0], "53")
	list := make([]int, sockets)
	for i := range list {
		list[i] = i
	}
	start := time.Now()
	each(list, sockets, func(worker int) {
		c, err := net.Dial("udp", server)
		if err != nil {
			return
		}
		defer c.Close()
		for i := worker; i < n; i += sockets {
			m := new(dns.Msg)
			m.SetQuestion(dns.Fqdn(fmt.Sprintf("q%d.%s", i, domain)), dns.TypeA)
			if b, err := m.Pack(); err == nil {
				_, _ = c.Write(b) // refused or not
			}
		}
	})
	p.say("%d questions in %v", n, time.Since(start).Round(time.Millisecond))
	return nil
}
