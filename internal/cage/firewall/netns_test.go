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
	"slices"
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
	lab.Uplink(t)
	for range 2 { // installing twice replaces
		if _, err := firewall.Install(config("up0")); err != nil {
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

const patience = 5 * time.Second

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
