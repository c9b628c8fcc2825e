package supervise

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/lab"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// world is a cage without BuildKit: everything that enforces and records, with
// a resolver and an origin behind the uplink.
type world struct {
	*parts
	downs  []teardown
	wire   *lab.Capture
	origin *lab.Space
	ctl    *control.Client
}

func newWorld(t *testing.T, spec policy.Spec) *world {
	t.Helper()
	must(t, unix.Mount("tmpfs", "/run", "tmpfs", 0, ""))
	w := &world{origin: lab.Uplink(t)}
	w.wire = lab.NewCapture(t, w.origin, "up1")
	w.outside(t)
	c := &cage{log: slog.New(slog.NewTextHandler(t.Output(), nil)), deadline: 10 * time.Second, budget: 5 * time.Second}
	life, end := context.WithCancelCause(t.Context())
	c.end = end
	w.parts = &parts{cage: c, config: contract.Boot{RunID: "r1", Policy: spec}}
	w.resolvers = []netip.AddrPort{netip.MustParseAddrPort("10.200.0.1:53")}
	must(t, makeDir(filepath.Dir(contract.JournalFile)))
	for _, p := range []phase{
		{"policy", w.compile}, {"reaper", w.reap}, {"network", w.network}, {"journal", w.openJournal},
		{"firewall", w.closeNetwork}, {"nameserver", w.serveNames}, {"proxy", w.serveProxy},
		{"control", w.serveControl}, {"record", w.keepRecord},
	} {
		down, err := p.up(t.Context(), life)
		if down != nil {
			w.downs = append(w.downs, teardown{p.name, down})
		}
		if err != nil {
			t.Fatalf("%s: %v", p.name, err)
		}
	}
	w.ctl = control.NewClient(contract.ControlSocket)
	t.Cleanup(func() {
		end(errStopped)
		if err := w.teardown(context.Background(), w.downs); err != nil {
			t.Error(err)
		}
	})
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func makeDir(path string) error { return unix.Mkdir(path, 0o700) }

// outside starts a resolver at 10.200.0.1 that knows everything as
// 10.200.0.100, and an origin there.
func (w *world) outside(t *testing.T) {
	t.Helper()
	var pc net.PacketConn
	var web net.Listener
	w.origin.Do(t, func() (err error) {
		if out, err := exec.Command("ip", "addr", "add", "10.200.0.100/24", "dev", "up1").CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if pc, err = net.ListenPacket("udp", "10.200.0.1:53"); err != nil {
			return err
		}
		web, err = net.Listen("tcp", "10.200.0.100:80")
		return err
	})
	resolver := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(rw dns.ResponseWriter, q *dns.Msg) {
		r := new(dns.Msg)
		r.SetReply(q)
		if q.Question[0].Qtype == dns.TypeA {
			r.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: net.IPv4(10, 200, 0, 100),
			}}
		}
		_ = rw.WriteMsg(r)
	})}
	go func() { _ = resolver.ActivateAndServe() }()
	go func() {
		_ = http.Serve(web, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(rw, "origin of %s", r.Host)
		}))
	}()
	t.Cleanup(func() { resolver.Shutdown(); web.Close() })
}

// ask asks server for name, as the calling thread's namespace.
func ask(server, name string, typ uint16) (netip.Addr, error) {
	q := new(dns.Msg)
	q.SetQuestion(dns.Fqdn(name), typ)
	r, _, err := (&dns.Client{Timeout: 2 * time.Second}).Exchange(q, server)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, rr := range r.Answer {
		switch a := rr.(type) {
		case *dns.A:
			addr, _ := netip.AddrFromSlice(a.A.To4())
			return addr, nil
		case *dns.AAAA:
			addr, _ := netip.AddrFromSlice(a.AAAA)
			return addr, nil
		}
	}
	return netip.Addr{}, errors.New("no address")
}

// get fetches / of host at addr on one thread: no client pool, no goroutine.
func get(addr netip.Addr, host string) (status int, body string, err error) {
	conn, err := net.DialTimeout("tcp", netip.AddrPortFrom(addr, 80).String(), 2*time.Second)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	must := conn.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host); err != nil || must != nil {
		return 0, "", errors.Join(err, must)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

// summary is the record in short.
func (w *world) summary(t *testing.T) []string {
	t.Helper()
	var b bytes.Buffer
	if err := w.ctl.Events(t.Context(), "", 1, &b); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for d := event.NewDecoder(&b); ; {
		r, err := d.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case r.Step != nil && r.Step.Exit == nil:
			lines = append(lines, fmt.Sprintf("step %s %s %v", r.Step.ID, r.Step.Command, r.Step.Addrs))
		case r.Step != nil:
			lines = append(lines, fmt.Sprintf("step %s exit %d", r.Step.ID, *r.Step.Exit))
		case r.DNS != nil:
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("dns %s %s %s %s", r.DNS.Step, r.DNS.Name, r.DNS.Type, addrText(r.DNS.Foreign))))
		case r.Conn != nil:
			lines = append(lines, strings.TrimSpace(fmt.Sprintf("conn %s %s %s %s:%d %s", r.Conn.Step, r.Conn.Verdict, r.Conn.Protocol, r.Conn.Name, r.Conn.Port, r.Conn.Reason)))
		case r.Drop != nil:
			lines = append(lines, fmt.Sprintf("drop %s %s %s %s", r.Drop.Step, r.Drop.Protocol, r.Drop.Dest, r.Drop.Name))
		case r.End != nil:
			lines = append(lines, fmt.Sprintf("end %s lost %d", r.End.Reason, r.End.Lost))
		}
	}
	return lines
}

func addrText(a netip.Addr) string {
	if a.IsValid() {
		return "foreign " + a.String()
	}
	return ""
}

func TestCageEndToEnd(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	w := newWorld(t, policy.Spec{
		Mode:         policy.Restrict,
		Rules:        policy.RuleTexts{HTTP: []policy.Text{{Text: "allowed.example.com:80"}}},
		AllowPrivate: []policy.Text{{Text: "10.200.0.0/24"}},
	})
	s := lab.NewStep(t, 2)
	told := make(chan string, 16)
	running, err := w.ctl.Start(t.Context(), control.Start{Command: "fetch", NetNS: s.Path()}, func(line string) { told <- line })
	must(t, err)

	var fake [3]netip.Addr
	s.Do(t, func() (err error) {
		for i, q := range []struct {
			name string
			typ  uint16
		}{{"allowed.example.com", dns.TypeA}, {"allowed.example.com", dns.TypeAAAA}, {"denied.example.com", dns.TypeA}} {
			if fake[i], err = ask("198.18.0.1:53", q.name, q.typ); err != nil {
				return fmt.Errorf("asking for %s: %w", q.name, err)
			}
		}
		_, err = ask("192.0.2.53:53", "tunnel.example.com", dns.TypeA)
		return err
	})
	for i, want := range []string{"200 origin of allowed.example.com", "200 origin of allowed.example.com", "403"} {
		host := []string{"allowed.example.com", "allowed.example.com", "denied.example.com"}[i]
		s.Do(t, func() error {
			status, body, err := get(fake[i], host)
			if got := fmt.Sprintf("%d %s", status, body); !strings.HasPrefix(got, want) {
				t.Errorf("fetching %s at %s: %s, %v", host, fake[i], got, err)
			}
			return nil
		})
	}
	udp := func(dst string) error {
		conn, err := net.Dial("udp", dst)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.Write([]byte("x"))
		return err
	}
	s.Do(t, func() error {
		return errors.Join(udp("192.0.2.1:443"), udp(netip.AddrPortFrom(fake[2], 443).String()), udp("[2001:db8::1]:123"))
	})
	// A step that did not register gets nothing.
	stranger := lab.NewStep(t, 9)
	if err := stranger.Try(func() error { _, err := ask("198.18.0.1:53", "allowed.example.com", dns.TypeA); return err }); err == nil {
		t.Error("a step that nobody registered got an answer")
	}
	must(t, running.Exit(4))
	must(t, w.ctl.Seal(t.Context(), ""))
	if _, err := w.ctl.Start(t.Context(), control.Start{Command: "late", NetNS: s.Path()}, nil); err == nil {
		t.Error("a step started after the record was sealed")
	}
	got := w.summary(t)
	want := []string{
		"step s1 fetch [198.19.0.2 fd62:7569:6c64:19::2]",
		"dns s1 allowed.example.com A", "dns s1 allowed.example.com AAAA", "dns s1 denied.example.com A",
		"dns s1 tunnel.example.com A foreign 192.0.2.53",
		"conn s1 allowed http allowed.example.com:80", "conn s1 allowed http allowed.example.com:80",
		"conn s1 blocked http denied.example.com:80 not-allowed",
		"drop s1 udp 192.0.2.1:443 ", "drop s1 udp " + netip.AddrPortFrom(fake[2], 443).String() + " denied.example.com",
		"drop s1 udp [2001:db8::1]:123 ",
		"dns unknown allowed.example.com A",
		"step s1 exit 4", "end sealed lost 0",
	}
	close(told)
	var lines []string
	for line := range told {
		lines = append(lines, line)
	}
	slices.Sort(lines)
	if d := cmp.Diff([]string{
		"buildcage: dns question for tunnel.example.com to 192.0.2.53 did not leave: the cage answers it",
		"buildcage: refused http denied.example.com:80 (not-allowed); to allow: allowed_http_rules: denied.example.com:80",
		"buildcage: refused udp to 192.0.2.1:443: only TCP leaves the cage",
		"buildcage: refused udp to [2001:db8::1]:123: only TCP leaves the cage",
		"buildcage: refused udp to denied.example.com (" + netip.AddrPortFrom(fake[2], 443).String() + "): only TCP leaves the cage",
	}, lines); d != "" {
		t.Errorf("told (-want +got):\n%s", d)
	}
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("record (-want +got):\n%s", d)
	}
	for _, p := range w.wire.IP() {
		if dst := netip.AddrFrom4([4]byte(p[16:20])).String(); p[0]>>4 != 4 || dst != "10.200.0.1" && dst != "10.200.0.100" {
			t.Errorf("on the uplink: %x", p)
		}
	}
}
