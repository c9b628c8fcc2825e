package nameserver_test

import (
	"context"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/buildcage/buildcage/internal/cage/firewall"
	"github.com/buildcage/buildcage/internal/cage/lab"
	"github.com/buildcage/buildcage/internal/cage/nameserver"
	"github.com/buildcage/buildcage/internal/cage/network"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
)

// The resolvers of the C library and of Go, as a step would have them, must
// get addresses, and must get a no at once.
func TestSystemResolvers(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	// A resolver asks only for the families of which the machine has an address.
	for _, args := range []string{"link set lo up", "addr add 198.19.0.2/32 dev lo", "addr add fd62:7569:6c64:19::2/128 dev lo"} {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			t.Fatalf("ip %s: %v: %s", args, err, out)
		}
	}
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount(file, "/etc/resolv.conf", "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	s := &nameserver.Server{Pool: &nameserver.Pool{}, Steps: &step.Table{}, Record: func(event.Record) {}, IPv6: true}
	s.Steps.Register(&step.Step{Step: event.Step{ID: "s1", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}}})
	start(t, s, netip.MustParseAddrPort("127.0.0.1:53"))

	v4, v6, _ := s.Pool.Assign("s1", "pypi.org")
	for _, tt := range []struct {
		command string
		want    string // in the output; empty: fails
	}{
		{"getent ahostsv4 pypi.org", v4.String()},
		{"getent ahostsv6 pypi.org", v6.String()},
		{"getent ahosts pypi.org", v4.String()},
		{"getent hosts PyPI.org.", v6.String()},
		{"getent ahosts x.invalid", ""},
		{"getent hosts 192.0.2.1", ""},
		{"getent ahosts a..b", ""},
	} {
		begin := time.Now()
		args := strings.Fields(tt.command)
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if took := time.Since(begin); took > 4*time.Second { // a resolver that gets no answer takes five
			t.Errorf("%s: took %v", tt.command, took)
		}
		if (err == nil) != (tt.want != "") || !strings.Contains(string(out), tt.want) {
			t.Errorf("%s: %v: %s; want %q", tt.command, err, out, tt.want)
		}
	}
	for _, pure := range []bool{true, false} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		addrs, err := (&net.Resolver{PreferGo: pure}).LookupNetIP(ctx, "ip", "pypi.org")
		cancel()
		if err != nil || len(addrs) != 2 {
			t.Errorf("Go, pure %v: %v, %v", pure, addrs, err)
		}
	}
}

// A step that asks another resolver over TCP gets our answer, and the record
// says whom it asked.
func TestForeignResolver(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	lab.Uplink(t)
	plan, err := network.Setup()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := firewall.Install(firewall.Config{
		Uplinks: plan.Uplinks, StepNet4: contract.StepNet4, StepNet6: contract.StepNet6,
		FakeNet4: contract.FakeNet4, FakeNet6: contract.FakeNet6, Listen4: contract.Listen4, Listen6: contract.Listen6,
		ProxyPort: contract.ProxyPort, DNSPort: contract.NameserverPort, ForeignPort: 54,
		Mark: contract.ProxyMark, LogGroup: contract.NFLogGroup,
	}); err != nil {
		t.Fatal(err)
	}
	st := lab.NewStep(t, 2)
	got := make(chan event.DNS, 1)
	s := &nameserver.Server{Pool: &nameserver.Pool{}, Steps: &step.Table{}, IPv6: true, Record: func(r event.Record) { got <- *r.DNS }}
	s.Steps.Register(&step.Step{Step: event.Step{ID: "s1", Addrs: []netip.Addr{st.Addr4, st.Addr6}}})
	start(t, s, netip.AddrPortFrom(contract.Listen4, contract.NameserverPort))
	start(t, s, netip.AddrPortFrom(contract.Listen6, contract.NameserverPort))

	for _, tt := range []struct {
		server  netip.Addr
		foreign bool
	}{
		{netip.MustParseAddr("192.0.2.53"), true},
		{netip.MustParseAddr("2001:db8::53"), true},
		{contract.Listen4, false},
		{contract.Listen6, false},
	} {
		st.Do(t, func() error {
			m := new(dns.Msg).SetQuestion("pypi.org.", dns.TypeA)
			r, _, err := (&dns.Client{Net: "tcp"}).Exchange(m, netip.AddrPortFrom(tt.server, 53).String())
			if err == nil && len(r.Answer) != 1 {
				t.Errorf("%v: answer %v", tt.server, r)
			}
			return err
		})
		want := netip.Addr{}
		if tt.foreign {
			want = tt.server
		}
		if d := <-got; d.Foreign != want || d.Step != "s1" || d.Name != "pypi.org" {
			t.Errorf("%v: record %+v, want foreign %v", tt.server, d, want)
		}
	}
}

func start(t *testing.T, s *nameserver.Server, at netip.AddrPort) {
	t.Helper()
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, udp, tcp) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
}
