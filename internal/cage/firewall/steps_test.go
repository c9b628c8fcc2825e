package firewall_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/lab"
)

func TestStepTCPReachesTheProxy(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	trap, err := net.Listen("tcp", "0.0.0.0:8080") // a careless service in the cage
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	for _, dst := range []string{
		"192.0.2.10:443", "[2001:db8::1]:25", "198.18.5.5:443", "[fd62:7569:6c64:18::99]:22",
		"198.19.0.1:22", "10.200.0.2:8080", "10.200.0.1:80", "198.18.0.1:8080", "198.18.0.1:15001",
		"[fd62:7569:6c64:18::1]:15001", "198.19.0.3:9999", "169.254.169.254:80", "127.0.0.2:80",
	} {
		err := c.step.Try(func() error { return dialTCP(dst) })
		if strings.HasPrefix(dst, "127.") {
			if err == nil {
				t.Errorf("connecting to %s left the step", dst)
			}
			continue
		}
		if err != nil {
			t.Errorf("connecting to %s: %v", dst, err)
			continue
		}
		c.wantOrig(t, dst)
	}
	want(t, "logged", c.settled(t))
	if got := c.wire.IP(); len(got) != 0 {
		t.Errorf("%d packets on the uplink: %x", len(got), got)
	}
}

func TestStepDNS(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	for _, dst := range []string{"198.18.0.1:53", "192.0.2.53:53", "[2001:db8::53]:53", "198.19.0.1:53", "[fd62:7569:6c64:18::1]:53"} {
		c.step.Do(t, func() error {
			got, err := udp(dst)
			if err == nil && got != "question" {
				err = fmt.Errorf("answer %q", got)
			}
			return err
		})
	}
	want(t, "logged", c.settled(t),
		"foreign udp 198.19.0.2 > 192.0.2.53:53", "foreign udp 198.19.0.2 > 198.19.0.1:53",
		"foreign udp fd62:7569:6c64:19::2 > [2001:db8::53]:53")
	if got := c.wire.IP(); len(got) != 0 {
		t.Errorf("%d packets on the uplink", len(got))
	}
}

// What one step asks beyond any use does not reach the nameserver, and another
// step's questions still do.
func TestQuestionFlood(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	const sent = 30_000
	for _, dst := range []string{"198.18.0.1:53", "192.0.2.53:53", "[fd62:7569:6c64:18::1]:53"} {
		before, err := c.fw.Counts()
		if err != nil {
			t.Fatal(err)
		}
		c.step.Do(t, func() error {
			conn, err := net.Dial("udp", dst)
			if err != nil {
				return err
			}
			defer conn.Close()
			for range sent {
				_, _ = conn.Write([]byte("question")) // the queue of the link may be full
			}
			return nil
		})
		counts, err := c.fw.Counts()
		if flooded := counts.Flooded - before.Flooded; err != nil || flooded == 0 || flooded >= sent {
			t.Errorf("%s: %d of %d dropped, %v", dst, flooded, sent, err)
		}
		c.next.Do(t, func() error {
			_, err := udp(dst)
			return err
		})
	}
}

func TestStepOtherTraffic(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	for _, dst := range []string{
		"192.0.2.1:443", "[2001:db8::1]:443", "198.19.0.1:1234", "10.200.0.2:53000", "10.200.0.1:123",
		"198.18.7.7:443", "198.18.0.1:15001", "198.18.0.1:54", "198.19.0.3:9999", "[fd62:7569:6c64:19::1]:99",
	} {
		err := c.step.Try(func() error { _, err := udp(dst); return err })
		if !refused(err) {
			t.Errorf("sending to %s: %v, want it refused", dst, err)
		}
	}
	// What a resolver's kernel says about a late answer is no attempt.
	c.step.Do(t, func() error {
		return lab.Raw(net.ParseIP("198.18.0.1"), ipv4(c.step.Addr4, "198.18.0.1", 1, []byte{3, 3, 0xfc, 0xfc, 0, 0, 0, 0}))
	})
	for proto, dst := range map[byte]string{1: "192.0.2.1", 47: "192.0.2.2", 132: "192.0.2.3", 4: "192.0.2.4", 255: "192.0.2.5"} {
		c.step.Do(t, func() error { return lab.Raw(net.ParseIP(dst), ipv4(c.step.Addr4, dst, proto, echo)) })
	}
	want(t, "logged", c.settled(t),
		"refused udp 198.19.0.2 > 192.0.2.1:443", "refused udp fd62:7569:6c64:19::2 > [2001:db8::1]:443",
		"refused udp 198.19.0.2 > 198.19.0.1:1234", "refused udp 198.19.0.2 > 10.200.0.2:53000",
		"refused udp 198.19.0.2 > 10.200.0.1:123", "refused udp 198.19.0.2 > 198.18.7.7:443",
		"refused udp 198.19.0.2 > 198.18.0.1:15001", "refused udp 198.19.0.2 > 198.18.0.1:54", "refused udp 198.19.0.2 > 198.19.0.3:9999",
		"refused udp fd62:7569:6c64:19::2 > [fd62:7569:6c64:19::1]:99",
		"refused icmp 198.19.0.2 > 192.0.2.1:0", "refused gre 198.19.0.2 > 192.0.2.2:0",
		"refused sctp 198.19.0.2 > 192.0.2.3:63487", "refused ipip 198.19.0.2 > 192.0.2.4:0",
		"refused proto-255 198.19.0.2 > 192.0.2.5:0")
	if got := c.wire.IP(); len(got) != 0 {
		t.Errorf("%d packets on the uplink: %x", len(got), got)
	}
}

var echo = []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0} // an ICMP echo request

func ipv4(src netip.Addr, dst string, proto byte, payload []byte) []byte {
	b := make([]byte, 20, 20+len(payload))
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(payload)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], net.ParseIP(dst).To4())
	return append(b, payload...)
}

func TestSpoofedSources(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	query := append([]byte{0x30, 0x39, 0, 53, 0, 16, 0, 0}, "question"...)
	for _, src := range []string{"198.19.0.3", "10.200.0.2", "198.19.0.77", "192.0.2.9", "127.0.0.1", "198.18.0.1"} {
		c.step.Do(t, func() error {
			return lab.Raw(net.ParseIP("198.18.0.1"), ipv4(netip.MustParseAddr(src), "198.18.0.1", 17, query))
		})
	}
	// Something that arrives last, so that everything before it was handled.
	c.step.Do(t, func() error { _, err := udp("198.18.0.1:53"); return err })
	counts, err := c.fw.Counts()
	if err != nil {
		t.Fatal(err)
	}
	if counts.Refused+counts.Foreign != 0 {
		t.Errorf("forged packets were attributed: %+v", counts)
	}
	for _, line := range c.settled(t) {
		if !strings.HasPrefix(line, "spoofed ") {
			t.Errorf("logged %q", line)
		}
	}
	if counts.Spoofed < 4 { // the kernel drops martians by itself
		t.Errorf("%d forged packets counted", counts.Spoofed)
	}
}
