package firewall_test

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/firewall"
	"github.com/buildcage/buildcage/internal/cage/lab"
	"github.com/buildcage/buildcage/internal/cage/network"
	"github.com/buildcage/buildcage/internal/contract"
)

const foreignPort = 54

var update = flag.Bool("update", false, "rewrite the golden files")

func config(uplinks ...string) firewall.Config {
	return firewall.Config{
		Uplinks:  uplinks,
		StepNet4: contract.StepNet4, StepNet6: contract.StepNet6,
		FakeNet4: contract.FakeNet4, FakeNet6: contract.FakeNet6,
		Listen4: contract.Listen4, Listen6: contract.Listen6,
		ProxyPort: contract.ProxyPort, DNSPort: contract.NameserverPort, ForeignPort: foreignPort,
		Mark: contract.ProxyMark, LogGroup: contract.NFLogGroup,
	}
}

func TestRuleset(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	for range 2 { // installing twice replaces
		if _, err := firewall.Install(config("eth0")); err != nil {
			t.Fatal(err)
		}
	}
	got, err := exec.Command("nft", "list", "ruleset").Output()
	if err != nil {
		t.Fatalf("running nft: %v", err)
	}
	file := filepath.Join("testdata", "ruleset.nft")
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(got)); d != "" {
		t.Errorf("ruleset (-want +got):\n%s", d)
	}
}

// cage is a caged namespace: firewall, listeners, an uplink and two steps.
type cage struct {
	fw         *firewall.Firewall
	log        *firewall.Log
	mu         sync.Mutex
	packets    []firewall.Packet
	orig       chan netip.AddrPort // original destination of a proxied connection
	neighbour  *lab.Space
	wire       *lab.Capture
	step, next *lab.Step
}

func newCage(t *testing.T) *cage {
	t.Helper()
	c := &cage{orig: make(chan netip.AddrPort, 64)}
	c.neighbour = lab.Uplink(t)
	plan, err := network.Setup()
	if err != nil {
		t.Fatal(err)
	}
	if !plan.IPv6 {
		t.Fatalf("no IPv6: %v", plan.NoIPv6)
	}
	c.log, err = firewall.OpenLog(contract.NFLogGroup, func(p firewall.Packet) {
		p.Payload = slices.Clone(p.Payload)
		c.mu.Lock()
		defer c.mu.Unlock()
		c.packets = append(c.packets, p)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.log.Close() })
	if c.fw, err = firewall.Install(config(plan.Uplinks...)); err != nil {
		t.Fatal(err)
	}
	c.wire = lab.NewCapture(t, c.neighbour, "up1")
	c.step, c.next = lab.NewStep(t, 2), lab.NewStep(t, 3)
	for _, a := range []netip.Addr{contract.Listen4, contract.Listen6} {
		c.proxy(t, a)
		nameserver(t, a, contract.NameserverPort)
		nameserver(t, a, foreignPort)
	}
	return c
}

func (c *cage) proxy(t *testing.T, a netip.Addr) {
	l, err := net.Listen("tcp", netip.AddrPortFrom(a, contract.ProxyPort).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c.orig <- original(conn.(*net.TCPConn))
			conn.Close()
		}
	}()
}

func original(c *net.TCPConn) (dst netip.AddrPort) {
	raw, err := c.SyscallConn()
	if err != nil {
		return dst
	}
	v4 := c.LocalAddr().(*net.TCPAddr).IP.To4() != nil
	raw.Control(func(fd uintptr) {
		if v4 {
			m, err := unix.GetsockoptIPv6Mreq(int(fd), unix.IPPROTO_IP, unix.SO_ORIGINAL_DST)
			if err == nil {
				dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Multiaddr[4:8])), binary.BigEndian.Uint16(m.Multiaddr[2:4]))
			}
			return
		}
		m, err := unix.GetsockoptIPv6MTUInfo(int(fd), unix.IPPROTO_IPV6, unix.SO_ORIGINAL_DST)
		if err == nil {
			port := binary.NativeEndian.AppendUint16(nil, m.Addr.Port)
			dst = netip.AddrPortFrom(netip.AddrFrom16(m.Addr.Addr), binary.BigEndian.Uint16(port))
		}
	})
	return dst
}

// nameserver echoes.
func nameserver(t *testing.T, a netip.Addr, port uint16) {
	pc, err := net.ListenPacket("udp", netip.AddrPortFrom(a, port).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.Close() })
	go func() {
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			pc.WriteTo(buf[:n], from)
		}
	}()
}

const patience = 2 * time.Second

func dialTCP(dst string) error {
	conn, err := net.DialTimeout("tcp", dst, patience)
	if err != nil {
		return err
	}
	return conn.Close()
}

// udp sends one datagram and waits for an answer or an error.
func udp(dst string) (string, error) {
	conn, err := net.Dial("udp", dst)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("question")); err != nil {
		return "", err
	}
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	return string(buf[:n]), err
}

// refused means: at once, by an ICMP error.
func refused(err error) bool {
	return errors.Is(err, syscall.EHOSTUNREACH) || errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.ENETUNREACH)
}

func (c *cage) wantOrig(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-c.orig:
		if got.String() != want {
			t.Errorf("original destination %s, want %s", got, want)
		}
	case <-time.After(patience):
		t.Errorf("no connection arrived, want one to %s", want)
	}
}

// settled returns the logged packets once the log has caught up with the counters.
func (c *cage) settled(t *testing.T) []string {
	t.Helper()
	counts, err := c.fw.Counts()
	if err != nil {
		t.Fatal(err)
	}
	if lost := c.log.Settle(context.Background(), counts.Logged(), patience); lost != 0 {
		t.Errorf("%d packets were counted but not logged: %+v", lost, counts)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for _, p := range c.packets {
		out = append(out, fmt.Sprintf("%s %s %s > %s", p.Prefix, firewall.ProtocolName(p.Protocol), p.Src.Addr(), p.Dst))
	}
	c.packets = nil
	return out
}

func want(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

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

func TestStepOtherTraffic(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	for _, dst := range []string{
		"192.0.2.1:443", "[2001:db8::1]:443", "198.19.0.1:1234", "10.200.0.2:53000", "10.200.0.1:123",
		"198.18.7.7:443", "198.18.0.1:15001", "198.18.0.1:54", "198.19.0.3:9999", "[fd62:7569:6c64:19::1]:99",
	} {
		start := time.Now()
		err := c.step.Try(func() error { _, err := udp(dst); return err })
		if !refused(err) {
			t.Errorf("sending to %s: %v, want it refused", dst, err)
		}
		if took := time.Since(start); took > 500*time.Millisecond {
			t.Errorf("sending to %s: refused only after %v", dst, took)
		}
	}
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

func TestUplinkIsClosed(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	trap, err := net.Listen("tcp", "0.0.0.0:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer trap.Close()
	c.neighbour.Do(t, func() error {
		return exec.Command("ip", "route", "add", "198.18.0.0/15", "via", "10.200.0.2").Run()
	})
	for _, dst := range []string{"10.200.0.2:8080", "198.18.0.1:15001", "198.18.0.1:53", "198.19.0.2:80", "[fd00:200::2]:8080"} {
		err := c.neighbour.Try(func() error {
			conn, err := net.DialTimeout("tcp", dst, 200*time.Millisecond)
			if err == nil {
				conn.Close()
			}
			return err
		})
		if err == nil {
			t.Errorf("the neighbour reached %s", dst)
		}
	}
	if counts, err := c.fw.Counts(); err != nil || counts.Uplink < 4 {
		t.Errorf("counts %+v, %v", counts, err)
	}
}

func TestBuilder(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	origin := make(chan net.Listener, 1)
	c.neighbour.Do(t, func() error {
		l, err := net.Listen("tcp", "10.200.0.1:7777")
		origin <- l
		return err
	})
	defer (<-origin).Close()

	for _, dst := range []string{"192.0.2.10:443", "198.18.5.5:443", "[fd62:7569:6c64:18::99]:443", "10.200.0.1:7777", "[2001:db8::1]:80"} {
		if err := dialTCP(dst); err != nil {
			t.Errorf("connecting to %s: %v", dst, err)
			continue
		}
		c.wantOrig(t, dst)
	}
	if got, err := udp("192.0.2.53:53"); err != nil || got != "question" {
		t.Errorf("asking a foreign resolver: %q, %v", got, err)
	}
	for _, dst := range []string{"192.0.2.1:443", "198.18.5.5:443", "10.200.0.1:99", "[fd62:7569:6c64:18::99]:443", "198.19.0.2:9"} {
		if _, err := udp(dst); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("sending to %s: %v, want it refused", dst, err)
		}
	}
	if got := c.wire.IP(); len(got) != 0 {
		t.Errorf("%d packets on the uplink", len(got))
	}
	marked := net.Dialer{Timeout: patience, Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, contract.ProxyMark) })
	}}
	conn, err := marked.Dial("tcp", "10.200.0.1:7777")
	if err != nil {
		t.Fatalf("a marked socket: %v", err)
	}
	conn.Close()
	if _, err := marked.Dial("tcp", "198.19.0.2:80"); err == nil {
		t.Error("a marked socket reached a step")
	}
	local, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	if err := dialTCP(local.Addr().String()); err != nil {
		t.Errorf("connecting to loopback: %v", err)
	}
	for _, line := range c.settled(t) {
		if !regexp.MustCompile(`^builder (udp|tcp) `).MatchString(line) {
			t.Errorf("logged %q", line)
		}
	}
}

// The engine's resolver asks on from inside the container. Only its UDP
// questions get out, and only when there is such a resolver.
func TestEngineDNS(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	var outside net.PacketConn
	c.neighbour.Do(t, func() (err error) {
		outside, err = net.ListenPacket("udp", "10.200.0.1:53")
		return err
	})
	defer outside.Close()
	go func() {
		buf := make([]byte, 64)
		for {
			_, from, err := outside.ReadFrom(buf)
			if err != nil {
				return
			}
			outside.WriteTo([]byte("from outside"), from)
		}
	}()
	conf := config("up0")
	for _, engine := range []bool{false, true} {
		conf.EngineDNS = engine
		if _, err := firewall.Install(conf); err != nil {
			t.Fatal(err)
		}
		want := map[bool]string{false: "question", true: "from outside"}[engine]
		if got, err := udp("10.200.0.1:53"); err != nil || got != want {
			t.Errorf("engine resolver %v: answer %q, %v, want %q", engine, got, err, want)
		}
		if err := c.step.Try(func() error {
			got, err := udp("10.200.0.1:53")
			if err == nil && got != "question" {
				err = fmt.Errorf("answer %q", got)
			}
			return err
		}); err != nil {
			t.Errorf("engine resolver %v: a step: %v", engine, err)
		}
		if err := dialTCP("10.200.0.1:53"); err == nil {
			t.Errorf("engine resolver %v: TCP to port 53 was not redirected", engine) // nobody listens on TCP here
		}
	}
}
