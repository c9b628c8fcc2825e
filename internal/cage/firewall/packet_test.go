package firewall_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/cage/firewall"
)

const (
	head4 = "4500 001c 0000 %s 40 %p 0000 c6130002 c0000201"
	head6 = "60000000 0008 %p 40 fd6275696c6400190000000000000002 20010db8000000000000000000000001"
)

func packet(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecode(t *testing.T) {
	v4 := func(frag, proto string) string { return strings.NewReplacer("%s", frag, "%p", proto).Replace(head4) }
	v6 := func(proto string) string { return strings.ReplaceAll(head6, "%p", proto) }
	type result struct {
		Protocol string
		Src, Dst string
		Payload  string
	}
	src4, src6 := "198.19.0.2", "[fd62:7569:6c64:19::2]"
	for name, test := range map[string]struct {
		packet string
		want   result
	}{
		"udp":            {v4("0000", "11") + "3039 0035 000c 0000 61626364", result{"udp", src4 + ":12345", "192.0.2.1:53", "abcd"}},
		"cut off":        {v4("0000", "11") + "3039", result{"udp", src4 + ":0", "192.0.2.1:0", ""}},
		"later fragment": {v4("0010", "11") + "3039 0035 000c 0000", result{"udp", src4 + ":0", "192.0.2.1:0", ""}},
		"icmp":           {v4("0000", "01") + "0800 f7ff 0000 0000", result{"icmp", src4 + ":0", "192.0.2.1:0", ""}},
		"unknown":        {v4("0000", "fd"), result{"proto-253", src4 + ":0", "192.0.2.1:0", ""}},
		"udp6":           {v6("11") + "3039 0035 0008 0000", result{"udp", src6 + ":12345", "[2001:db8::1]:53", ""}},
		"options":        {v6("00") + "1100 0000 0000 0000" + "3039 0035 0009 0000 61", result{"udp", src6 + ":12345", "[2001:db8::1]:53", "a"}},
		"fragment6":      {v6("2c") + "1100 0008 0000 0000" + "3039 0035", result{"udp", src6 + ":0", "[2001:db8::1]:0", ""}},
		"endless":        {v6("00") + strings.Repeat("0000 0000 0000 0000", 20), result{"proto-0", src6 + ":0", "[2001:db8::1]:0", ""}},
		"too long":       {v6("00") + "11ff 0000 0000 0000", result{"proto-0", src6 + ":0", "[2001:db8::1]:0", ""}},
	} {
		p, ok := firewall.Decode(packet(t, test.packet))
		got := result{firewall.ProtocolName(p.Protocol), p.Src.String(), p.Dst.String(), string(p.Payload)}
		if d := cmp.Diff(test.want, got); d != "" || !ok {
			t.Errorf("%s: %v (-want +got):\n%s", name, ok, d)
		}
	}
	for _, short := range []string{"", "45", "60000000", "00" + strings.Repeat("00", 60)} {
		if p, ok := firewall.Decode(packet(t, short)); ok {
			t.Errorf("decoded %q as %+v", short, p)
		}
	}
}

// FuzzDecode: no packet panics, and what is cut off never changes the addresses.
func FuzzDecode(f *testing.F) {
	f.Add(packet(f, strings.NewReplacer("%s", "0000", "%p", "11").Replace(head4)+"30390035"), 22)
	f.Add(packet(f, strings.ReplaceAll(head6, "%p", "00")+"1100000000000000"), 44)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		whole, ok := firewall.Decode(b)
		if cut < 0 || cut > len(b) {
			return
		}
		part, partly := firewall.Decode(b[:cut])
		if !partly {
			return
		}
		if !ok || whole.Src.Addr() != part.Src.Addr() || whole.Dst.Addr() != part.Dst.Addr() {
			t.Errorf("cut to %d of %x: %+v, whole %+v", cut, b, part, whole)
		}
	})
}
