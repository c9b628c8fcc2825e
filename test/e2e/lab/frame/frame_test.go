package frame

import (
	"encoding/hex"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	const mac = "020000000002020000000001"
	for _, tt := range []struct {
		name, hex, proto, dst string
		port                  uint16
		syn, noise            bool
	}{
		{"SYN", "0800 4500002800004000400600000ac800020ac800c8 9c4001bb 00000000 00000000 5002ffff00000000", "tcp", "10.200.0.200", 443, true, false},
		{"ACK", "0800 4500002800004000400600000ac800020ac800c8 9c4001bb 00000000 00000000 5010ffff00000000", "tcp", "10.200.0.200", 443, false, false},
		{"UDP", "0800 4500001e00004000401100000ac8000208080808 9c400035 000a0000 6162", "udp", "8.8.8.8", 53, false, false},
		{"second fragment", "0800 4500001e00000001401100000ac8000208080808 9c400035 000a0000 6162", "udp", "8.8.8.8", 0, false, false},
		{"UDP over IPv6", "86dd 60000000 000a1140 fd0a00c8000000000000000000000002 fd0a00c8000000000000000000000200 9c400035000a00006162", "udp", "fd0a:c8::200", 53, false, false},
		{"neighbour", "86dd 60000000 00083aff fd0a00c8000000000000000000000002 ff020000000000000000000000000001 8700000000000000", "icmpv6", "ff02::1", 0, false, true},
		{"echo", "86dd 60000000 00083aff fd0a00c8000000000000000000000002 fd0a00c8000000000000000000000200 8000000000000000", "icmpv6", "fd0a:c8::200", 0, false, false},
		{"ARP", "0806 0001080006040001", "arp", "invalid IP", 0, false, true},
		{"GRE", "0800 4500001800004000402f00000ac800020ac800c8 00000800", "gre", "10.200.0.200", 0, false, false},
		{"protocol 253", "0800 4500001800004000 40fd0000 0ac800020ac800c8 00000800", "proto-253", "10.200.0.200", 0, false, false},
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(mac+tt.hex, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		p, ok := Parse(b)
		if !ok || p.Proto != tt.proto || p.Dst.String() != tt.dst || p.Port != tt.port || p.SYN != tt.syn || p.Noise() != tt.noise {
			t.Errorf("%s: %v %+v, noise %v", tt.name, ok, p, p.Noise())
		}
		for n := range b {
			Parse(b[:n]) // must not panic
		}
	}
}
