package firewall_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/firewall"
	"github.com/buildcage/buildcage/internal/cage/lab"
	"github.com/buildcage/buildcage/internal/contract"
)

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
	conn, err := marked("tcp", "10.200.0.1:7777")
	if err != nil {
		t.Fatalf("a marked socket: %v", err)
	}
	conn.Close()
	if _, err := marked("tcp", "198.19.0.2:80"); err == nil {
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

// An answer that comes when its socket is closed makes the kernel say so to
// the resolver. That does not leave.
func TestLateAnswer(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	for _, address := range []string{"10.200.0.1:53", "[fd00:200::1]:53"} {
		server := make(chan net.PacketConn, 1)
		c.neighbour.Do(t, func() error {
			l, err := net.ListenPacket("udp", address)
			server <- l
			return err
		})
		l := <-server
		t.Cleanup(func() { l.Close() })
		conn, err := marked("udp", address)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
		_, from, err := l.ReadFrom(make([]byte, 100))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if _, err := l.WriteTo([]byte("too late"), from); err != nil {
			t.Fatal(err)
		}
	}
	if err := dialTCP("10.200.0.1:7"); err == nil { // behind it on the wire, if it gets there
		<-c.orig
	}
	for _, packet := range c.wire.IP() {
		if packet[0]>>4 == 4 && packet[9] == unix.IPPROTO_ICMP || packet[0]>>4 == 6 && packet[6] == unix.IPPROTO_ICMPV6 {
			t.Errorf("on the uplink: %x", packet)
		}
	}
}

// What the cage has still to say to a step that is gone must not take the
// default route.
func TestGoneStep(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	c := newCage(t)
	var conns []net.Conn
	for listen, dst := range map[netip.Addr]string{contract.Listen4: "192.0.2.9:53", contract.Listen6: "[2001:db8::9]:53"} {
		l, err := net.Listen("tcp", netip.AddrPortFrom(listen, contract.NameserverPort).String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		c.step.Do(t, func() error {
			conn, err := net.DialTimeout("tcp", dst, patience)
			if err == nil {
				t.Cleanup(func() { conn.Close() })
			}
			return err
		})
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, conn)
	}
	link, err := netlink.LinkByName(c.step.Link)
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkDel(link); err != nil {
		t.Fatal(err)
	}
	for _, conn := range conns {
		if _, err := conn.Write([]byte("to a step")); err != nil {
			t.Error(err)
		}
		conn.Close()
		if err := dialTCP("10.200.0.1:7"); err == nil { // behind it on the wire, if it gets there
			<-c.orig
		}
		for _, packet := range c.wire.IP() {
			t.Errorf("on the uplink: %x", packet)
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
