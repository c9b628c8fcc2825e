package nameserver

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/event"
)

// records keeps what a server recorded.
type records struct {
	mu   sync.Mutex
	list []event.DNS
}

func (r *records) add(e event.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, *e.DNS)
}

func (r *records) count(match func(event.DNS) bool) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range r.list {
		if match(d) {
			n++
		}
	}
	return n
}

// serve runs s on loopback sockets and returns their address, one port for
// both. It ends with the test, which checks that it ended well.
func serve(t *testing.T, s *Server) (netip.AddrPort, *records) {
	t.Helper()
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := netip.MustParseAddrPort(tcp.Addr().String())
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	log := &records{}
	s.Record = log.add
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, udp, tcp) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return at, log
}

func dial(t *testing.T, network, from string, to netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{Timeout: 5 * time.Second}
	if network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.MustParseAddrPort(from + ":0"))
	} else {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from + ":0"))
	}
	conn, err := d.Dial(network, to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestGoResolver(t *testing.T) {
	for _, network := range []string{"udp", "tcp"} {
		t.Run(network, func(t *testing.T) {
			s := server()
			at, _ := serve(t, s)
			r := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, at.String())
			}}
			addrs, err := r.LookupNetIP(t.Context(), "ip", "pypi.org.")
			v4, v6, ok := s.Pool.Addr("pypi.org")
			if err != nil || !ok || len(addrs) != 2 || (addrs[0].Unmap() != v4 && addrs[1].Unmap() != v4) || (addrs[0] != v6 && addrs[1] != v6) {
				t.Errorf("addresses %v, %v; want %v and %v", addrs, err, v4, v6)
			}
			var dnsErr *net.DNSError
			for what, lookup := range map[string]func() error{
				"TXT": func() error { _, err := r.LookupTXT(t.Context(), "pypi.org."); return err },
				"MX":  func() error { _, err := r.LookupMX(t.Context(), "pypi.org."); return err },
				"SRV": func() error { _, _, err := r.LookupSRV(t.Context(), "http", "tcp", "pypi.org."); return err },
				"PTR": func() error { _, err := r.LookupAddr(t.Context(), "192.0.2.1"); return err },
				"bad": func() error { _, err := r.LookupHost(t.Context(), "x.invalid."); return err },
			} {
				start := time.Now()
				if err := lookup(); !errors.As(err, &dnsErr) || !dnsErr.IsNotFound {
					t.Errorf("%s: %v", what, err)
				}
				if took := time.Since(start); took > 4*time.Second { // a resolver that gets no answer takes five
					t.Errorf("%s: took %v", what, took)
				}
			}
		})
	}
}

// musl and glibc send both questions from one socket before they read.
func TestPairOnOneSocket(t *testing.T) {
	at, _ := serve(t, server())
	conn := dial(t, "udp", "127.0.0.1", at)
	want := map[uint16]uint16{1: dns.TypeA, 2: dns.TypeAAAA}
	for id, typ := range want {
		m := query("pypi.org.", typ)
		m.Id = id
		if _, err := conn.Write(packed(t, m)); err != nil {
			t.Fatal(err)
		}
	}
	buf := make([]byte, 512)
	for range 2 {
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		var r dns.Msg
		if err := r.Unpack(buf[:n]); err != nil || len(r.Answer) != 1 || r.Answer[0].Header().Rrtype != want[r.Id] {
			t.Errorf("answer %v, %v", r, err)
		}
		delete(want, r.Id)
	}
	if len(want) != 0 {
		t.Errorf("no answer for %v", want)
	}
}

func framed(t *testing.T, m *dns.Msg) []byte {
	b := packed(t, m)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func readFramed(t *testing.T, conn net.Conn) *dns.Msg {
	t.Helper()
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, b); err != nil {
		t.Fatal(err)
	}
	m := new(dns.Msg)
	if err := m.Unpack(b); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPipelining(t *testing.T) {
	at, _ := serve(t, server())
	conn := dial(t, "tcp", "127.0.0.1", at)
	var out []byte
	for i := range 100 {
		m := query(fmt.Sprintf("%d.example.com.", i), dns.TypeA)
		m.Id = uint16(i)
		out = append(out, framed(t, m)...)
	}
	if _, err := conn.Write(out); err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		if m := readFramed(t, conn); m.Id != uint16(i) || len(m.Answer) != 1 {
			t.Fatalf("answer %d: %v", i, m)
		}
	}
}

// What is not DNS over TCP is closed, recorded and never waited for.
func TestTCPGarbage(t *testing.T) {
	for name, garbage := range map[string]string{
		"HTTP":           "GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
		"TLS":            "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
		"length 0":       "\x00\x00",
		"length 11":      "\x00\x0bhello world",
		"a response":     "\x00\x0c\x00\x01\x81\x00\x00\x00\x00\x00\x00\x00\x00\x00",
		"length too big": "\xff\xff\x00",
	} {
		t.Run(name, func(t *testing.T) {
			at, log := serve(t, server())
			conn := dial(t, "tcp", "127.0.0.1", at)
			if _, err := conn.Write([]byte(garbage)); err != nil {
				t.Fatal(err)
			}
			if n, err := conn.Read(make([]byte, 1)); n != 0 || errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d bytes, %v", n, err)
			}
			if n := log.count(func(d event.DNS) bool { return d.Reason == event.InvalidRequest && d.Step == "s1" }); n != 1 {
				t.Errorf("%d records", n)
			}
		})
	}
}

func TestTCPIdle(t *testing.T) {
	s := server()
	s.idle = 20 * time.Millisecond
	at, _ := serve(t, s)
	for _, start := range []string{"", "\x00", "\x00\x20abc"} {
		conn := dial(t, "tcp", "127.0.0.1", at)
		if _, err := io.WriteString(conn, start); err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isReset(err) {
			t.Errorf("after %q: %v", start, err)
		}
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && !op.Timeout()
}

// A step that holds all its connections must not keep another from asking.
func TestTCPConnectionCap(t *testing.T) {
	s := server()
	s.Steps.Register(&step.Step{Step: event.Step{ID: "s2", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.2")}}})
	at, log := serve(t, s)
	var held []net.Conn
	for range maxStepConn {
		held = append(held, dial(t, "tcp", "127.0.0.1", at))
	}
	over := dial(t, "tcp", "127.0.0.1", at)
	if _, err := over.Read(make([]byte, 1)); !errors.Is(err, io.EOF) && !isReset(err) {
		t.Errorf("connection beyond the cap: %v", err)
	}
	if n := log.count(func(d event.DNS) bool { return d.Step == "s1" && d.Reason == event.Overload }); n != 1 {
		t.Errorf("%d records", n)
	}
	other := dial(t, "tcp", "127.0.0.2", at)
	if _, err := other.Write(framed(t, query("pypi.org.", dns.TypeA))); err != nil {
		t.Fatal(err)
	}
	if m := readFramed(t, other); len(m.Answer) != 1 {
		t.Errorf("answer %v", m)
	}
	for _, conn := range held {
		conn.Close()
	}
}

func TestAttribution(t *testing.T) {
	s := server()
	s.Own = func(a netip.Addr) bool { return a == netip.MustParseAddr("127.0.0.3") }
	at, log := serve(t, s)
	for _, tt := range []struct{ from, step string }{
		{"127.0.0.1", "s1"}, {"127.0.0.3", event.BuilderStep}, {"127.0.0.4", UnknownStep},
	} {
		for _, network := range []string{"udp", "tcp"} {
			name := network + "." + tt.step + ".example.com"
			conn := dial(t, network, tt.from, at)
			c := &dns.Conn{Conn: conn}
			if err := c.WriteMsg(query(name+".", dns.TypeA)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.ReadMsg(); err != nil {
				t.Fatal(err)
			}
			if n := log.count(func(d event.DNS) bool { return d.Step == tt.step && d.Name == name }); n != 1 {
				t.Errorf("%s: %d records", name, n)
			}
		}
	}
}

// One step sends 20 000 questions a second; another must not notice.
func TestFlood(t *testing.T) {
	s := server()
	s.Steps.Register(&step.Step{Step: event.Step{ID: "s2", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.2")}}})
	at, log := serve(t, s)
	flood := dial(t, "udp", "127.0.0.1", at)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; {
			for range 200 {
				i++
				_, _ = flood.Write(packed(t, query(fmt.Sprintf("%d.example.com.", i), dns.TypeA)))
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	})
	limited := func() int {
		return log.count(func(d event.DNS) bool { return d.Step == "s1" && d.Reason == event.Overload && d.Name == "" })
	}
	for i := 0; i < 200 || i < 5000 && limited() == 0; i++ {
		start := time.Now()
		c := &dns.Conn{Conn: dial(t, "udp", "127.0.0.2", at)}
		if err := c.WriteMsg(query(fmt.Sprintf("good-%d.example.com.", i%200), dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		r, err := c.ReadMsg()
		if err != nil || len(r.Answer) != 1 {
			t.Fatalf("question %d of the other step: %v, %v", i, r, err)
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("question %d of the other step took %v", i, took)
		}
		c.Close()
	}
	close(stop)
	wg.Wait()
	if limited() == 0 {
		t.Error("the flood was not limited")
	}
	if n := s.Pool.taken["s1"]; n > stepNames {
		t.Errorf("the flood took %d names", n)
	}
}

func TestServeSaysWhenASocketDies(t *testing.T) {
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	udp.Close()
	if err := server().Serve(t.Context(), udp, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
}

func TestLimiter(t *testing.T) {
	var l limiter
	now := time.Unix(1_000_000, 0)
	passed := func(step string, n int) (ok int) {
		for range n {
			if l.allow(step, now) {
				ok++
			}
		}
		return ok
	}
	if got := passed("s1", 2*burst); got != burst {
		t.Errorf("%d at once, want %d", got, burst)
	}
	if got := passed("s2", 10); got != 10 {
		t.Errorf("%d of another step", got)
	}
	now = now.Add(500 * time.Millisecond)
	if got := passed("s1", 2*burst); got != rate/2 {
		t.Errorf("%d after half a second, want %d", got, rate/2)
	}
	for i := range maxBuckets {
		passed(fmt.Sprint(i), 1)
	}
	now = now.Add(time.Minute)
	passed("new", 1)
	if n := len(l.buckets); n != 1 {
		t.Errorf("%d buckets kept", n)
	}
}
