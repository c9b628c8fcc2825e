package policy

import (
	"net/netip"
	"testing"
)

// DNS-18, DNS-20 and the edges of every guarded range.
func TestGuard(t *testing.T) {
	g := NewGuard([]netip.Prefix{
		netip.MustParsePrefix("172.17.0.1/32"), netip.MustParsePrefix("203.0.113.77/32"),
		netip.MustParsePrefix("fd62:7569:6c64:18::/64"), netip.MustParsePrefix("::ffff:192.0.2.9/128"),
	})
	for class, addrs := range map[Class][]string{
		Public: {"1.1.1.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1", "2606:4700::1", "::ffff:1.1.1.1",
			"100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0",
			"172.15.255.255", "172.32.0.0", "192.0.1.0", "192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0",
			"168.63.129.15", "168.63.129.17", "223.255.255.255", "9.255.255.255", "11.0.0.0", "1.0.0.0",
			"64:ff9b::1.1.1.1", "2002:101:101::1", "::ffff:0:1.1.1.1", "2001:1::1", "3fff::1"},
		Private: {"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255",
			"fc00::1", "fd12:3456::1", "::ffff:10.0.0.1", "fd00:ec2::253"},
		Forbidden: {"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.169.254", "169.254.0.0", "100.64.0.1",
			"100.100.100.200", "100.127.255.255", "192.0.0.1", "192.0.0.192", "168.63.129.16", "224.0.0.1", "239.255.255.255",
			"255.255.255.255", "240.0.0.1", "198.18.0.1", "198.19.255.255",
			"::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
			"64:ff9b::10.0.0.1", "64:ff9b:1::1", "64:ff9b::1:1.1.1.1", "2002:7f00:1::", "2002:a00:1::", "2002:a9fe:a9fe::",
			"2001::1", "2001:0:1::", "fe80::1", "fe80::1%eth0", "febf::1", "fec0::1", "ff02::1", "fd00:ec2::254",
			"100::1", "4000::1", "2606:4700::1%x"},
		Self: {"172.17.0.1", "203.0.113.77", "::ffff:172.17.0.1", "64:ff9b::172.17.0.1", "2002:ac11:1::",
			"fd62:7569:6c64:18::5", "192.0.2.9", "::ffff:192.0.2.9"},
	} {
		for _, text := range addrs {
			if got := g.Check(netip.MustParseAddr(text)); got != class {
				t.Errorf("%s is %v, want %v", text, got, class)
			}
		}
	}
	if got := g.Check(netip.Addr{}); got != Forbidden {
		t.Errorf("no address is %v", got)
	}
}

func TestPrivateAllowed(t *testing.T) {
	p, err := Compile(Spec{
		AllowPrivate: []Text{{Text: "10.1.0.0/16"}, {Text: "fd12::/16"}, {Text: "192.168.1.7"}},
		Rules:        RuleTexts{IP: []Text{{Text: "10.9.9.9:5432"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"10.1.2.3:80": true, "[::ffff:10.1.2.3]:80": true, "10.2.0.1:80": false, "[fd12::1]:80": true, "[fd13::1]:80": false,
		"192.168.1.7:80": true, "192.168.1.8:80": false, "10.9.9.9:5432": true, "10.9.9.9:5433": false,
	} {
		if got := p.For(Step{Command: "x"}).PrivateAllowed(netip.MustParseAddrPort(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if p.PrivateAllowed(netip.MustParseAddr("10.9.9.9")) {
		t.Error("an IP rule is not an entry of allow_private")
	}
}
