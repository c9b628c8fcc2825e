package upstream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// zone is a scripted server on loopback, over UDP and TCP.
type zone struct {
	addr    netip.AddrPort
	mu      sync.Mutex
	handler dns.HandlerFunc
	queries atomic.Int64
}

func newZone(t *testing.T, handler dns.HandlerFunc) *zone {
	t.Helper()
	z := &zone{handler: handler}
	serve := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		z.queries.Add(1)
		z.mu.Lock()
		handler := z.handler
		z.mu.Unlock()
		handler(w, q)
	})
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	z.addr = tcp.Addr().(*net.TCPAddr).AddrPort()
	udp, err := net.ListenPacket("udp", z.addr.String())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*dns.Server{{Listener: tcp, Handler: serve}, {PacketConn: udp, Handler: serve}} {
		up := make(chan struct{})
		s.NotifyStartedFunc = func() { close(up) }
		go s.ActivateAndServe()
		<-up
		t.Cleanup(func() { s.Shutdown() })
	}
	return z
}

func (z *zone) set(handler dns.HandlerFunc) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.handler = handler
}

// answering replies with records in zone file syntax.
func answering(records ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for _, text := range records {
			rr, err := dns.NewRR(text)
			if err != nil {
				panic(err)
			}
			if rr.Header().Rrtype == q.Question[0].Qtype || rr.Header().Rrtype == dns.TypeCNAME {
				m.Answer = append(m.Answer, rr)
			}
		}
		w.WriteMsg(m)
	}
}

func failing(rcode int) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) { w.WriteMsg(new(dns.Msg).SetRcode(q, rcode)) }
}

func silent(dns.ResponseWriter, *dns.Msg) {}

func addrs(texts ...string) (list []netip.Addr) {
	for _, s := range texts {
		list = append(list, netip.MustParseAddr(s))
	}
	return list
}

func TestLookup(t *testing.T) {
	many := []string{}
	for range 200 {
		many = append(many, "www.example.com. 5 IN A 192.0.2.1")
	}
	loop := []string{"www.example.com. 5 IN CNAME b.example.com.", "b.example.com. 5 IN CNAME www.example.com.", "b.example.com. 5 IN A 192.0.2.1"}
	for title, c := range map[string]struct {
		handler dns.HandlerFunc
		want    []netip.Addr
		err     error
	}{
		"both families": {answering("www.example.com. 5 IN A 192.0.2.1", "www.example.com. 5 IN AAAA 2001:db8::1"), addrs("192.0.2.1", "2001:db8::1"), nil},
		"only v6":       {answering("www.example.com. 5 IN AAAA 2001:db8::1"), addrs("2001:db8::1"), nil},
		"case":          {answering("WWW.Example.com. 5 IN A 192.0.2.1"), addrs("192.0.2.1"), nil},
		"chain": {answering("www.example.com. 5 IN CNAME a.example.net.", "a.example.net. 5 IN CNAME b.example.org.", "b.example.org. 5 IN A 192.0.2.9"),
			addrs("192.0.2.9"), nil},
		"not in the chain": {answering("www.example.com. 5 IN CNAME a.example.net.", "evil.example.org. 5 IN A 192.0.2.9"), nil, ErrNoAddress},
		"other owner":      {answering("evil.example.org. 5 IN A 192.0.2.9"), nil, ErrNoAddress},
		"loop":             {answering(loop...), nil, nil},
		"many":             {truncating(answering(many...)), slices.Repeat(addrs("192.0.2.1"), maxAddrs), nil},
		"no such name":     {failing(dns.RcodeNameError), nil, ErrNoSuchName},
		"empty":            {answering(), nil, ErrNoAddress},
		"server failure":   {failing(dns.RcodeServerFailure), nil, nil},
		"forged first": {func(w dns.ResponseWriter, q *dns.Msg) {
			for _, forge := range []func(*dns.Msg){
				func(m *dns.Msg) { m.Id++ },
				func(m *dns.Msg) { m.Question[0].Name = "evil.example.org." },
				func(m *dns.Msg) { m.Question = nil },
				func(m *dns.Msg) { m.Response = false },
			} {
				m := new(dns.Msg).SetReply(q)
				m.Question = slices.Clone(m.Question)
				rr, _ := dns.NewRR("www.example.com. 5 IN A 203.0.113.66")
				m.Answer = append(m.Answer, rr)
				forge(m)
				w.WriteMsg(m)
			}
			w.Write([]byte{1, 2, 3})
			answering("www.example.com. 5 IN A 192.0.2.1")(w, q)
		}, addrs("192.0.2.1"), nil},
	} {
		t.Run(title, func(t *testing.T) {
			r := &Resolver{Servers: []netip.AddrPort{newZone(t, c.handler).addr}}
			got, err := r.Lookup(t.Context(), "www.example.com")
			var failed *NameError
			switch {
			case c.want != nil && (err != nil || !slices.Equal(got, c.want)):
				t.Errorf("%v, %v, want %v", got, err, c.want)
			case c.want == nil && (!errors.As(err, &failed) || c.err != nil && !errors.Is(err, c.err)):
				t.Errorf("%v, %v, want error %v", got, err, c.err)
			}
		})
	}
}

// truncating cuts every answer over UDP.
func truncating(next dns.HandlerFunc) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		if w.RemoteAddr().Network() == "udp" {
			m := new(dns.Msg).SetReply(q)
			m.Truncated = true
			w.WriteMsg(m)
			return
		}
		next(w, q)
	}
}

func TestNextServer(t *testing.T) {
	bad := newZone(t, failing(dns.RcodeRefused))
	good := newZone(t, answering("www.example.com. 5 IN A 192.0.2.1"))
	r := &Resolver{Servers: []netip.AddrPort{bad.addr, good.addr}}
	if got, err := r.Lookup(t.Context(), "www.example.com"); err != nil || len(got) != 1 {
		t.Errorf("%v, %v", got, err)
	}
	if bad.queries.Load() == 0 {
		t.Error("the first server was not asked")
	}
	// A name that does not exist is not asked for elsewhere.
	bad.set(failing(dns.RcodeNameError))
	before := good.queries.Load()
	if _, err := r.Lookup(t.Context(), "gone.example.com"); !errors.Is(err, ErrNoSuchName) || good.queries.Load() != before {
		t.Errorf("%v, %d more queries", err, good.queries.Load()-before)
	}
}

func TestCache(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	z := newZone(t, answering("www.example.com. 0 IN A 192.0.2.1"))
	r := &Resolver{Servers: []netip.AddrPort{z.addr}, now: func() time.Time { return now }}
	look := func() int64 {
		before := z.queries.Load()
		r.Lookup(t.Context(), "www.example.com")
		return z.queries.Load() - before
	}
	for i, step := range []struct {
		after time.Duration
		fresh bool
		next  dns.HandlerFunc
	}{
		{0, true, nil},
		{900 * time.Millisecond, false, nil}, // TTL 0 counts as one second
		{200 * time.Millisecond, true, answering("www.example.com. 9999 IN A 192.0.2.1")},
		{2 * time.Second, true, nil},
		{59 * time.Second, false, nil},
		{2 * time.Second, true, nil}, // and a long one as a minute
		{2 * time.Second, false, failing(dns.RcodeNameError)},
		{60 * time.Second, true, nil},
		{900 * time.Millisecond, false, nil}, // failures for one second
		{200 * time.Millisecond, true, nil},
	} {
		now = now.Add(step.after)
		if fresh := look() > 0; fresh != step.fresh {
			t.Errorf("step %d: asked again: %v", i, fresh)
		}
		if step.next != nil {
			z.set(step.next)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	r := &Resolver{cache: map[string]entry{}, now: func() time.Time { return time.Unix(0, 0) }}
	for i := range maxCache + 10 {
		r.makeRoom()
		r.cache[strings.Repeat("a", 1+i%60)+string(rune('a'+i/60%26))+string(rune(i))] = entry{expires: time.Unix(60, 0)}
	}
	if len(r.cache) > maxCache {
		t.Errorf("%d entries", len(r.cache))
	}
}

// Many callers, one lookup; one caller's impatience is not the others'.
func TestLookupIsShared(t *testing.T) {
	asked, release := make(chan struct{}, 2), make(chan struct{})
	answer := answering("www.example.com. 5 IN A 192.0.2.1")
	z := newZone(t, func(w dns.ResponseWriter, q *dns.Msg) {
		asked <- struct{}{}
		<-release
		answer(w, q)
	})
	r := &Resolver{Servers: []netip.AddrPort{z.addr}}
	ctx, cancel := context.WithCancel(t.Context())
	impatient := make(chan error, 1)
	go func() {
		_, err := r.Lookup(ctx, "www.example.com")
		impatient <- err
	}()
	<-asked
	cancel()
	if err := <-impatient; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if got, err := r.Lookup(t.Context(), "www.example.com"); err != nil || len(got) != 1 {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	close(release)
	group.Wait()
	if n := z.queries.Load(); n != 2 {
		t.Errorf("%d queries", n)
	}
}

func TestSilentServerIsBounded(t *testing.T) {
	r := &Resolver{Servers: []netip.AddrPort{newZone(t, silent).addr}}
	began := time.Now()
	_, err := r.Lookup(t.Context(), "www.example.com")
	if took := time.Since(began); err == nil || took > lookupTimeout+time.Second {
		t.Errorf("%v after %s", err, took)
	}
	if _, err := new(Resolver).Lookup(t.Context(), "www.example.com"); !errors.Is(err, ErrNoServer) {
		t.Errorf("no server: %v", err)
	}
}

func TestParseConf(t *testing.T) {
	got, err := ParseConf(strings.NewReader("# made by hand\nnameserver 127.0.0.11\nsearch example.com\noptions ndots:0\n" +
		"nameserver nonsense\nnameserver fe80::1%eth0 \nnameserver\n  nameserver 2001:db8::53 # trailing\nnameserver 192.0.2.4\n"))
	want := "[127.0.0.11:53 [fe80::1%eth0]:53 [2001:db8::53]:53]"
	if s := strings.ReplaceAll(strings.Trim(joined(got), " "), "  ", " "); err != nil || s != want {
		t.Errorf("%s, %v, want %s", s, err, want)
	}
}

func joined(list []netip.AddrPort) string {
	texts := make([]string, len(list))
	for i, a := range list {
		texts[i] = a.String()
	}
	return "[" + strings.Join(texts, " ") + "]"
}

func FuzzRead(f *testing.F) {
	query := new(dns.Msg).SetQuestion("www.example.com.", dns.TypeA)
	m := new(dns.Msg).SetReply(query)
	rr, _ := dns.NewRR("www.example.com. 5 IN A 192.0.2.1")
	m.Answer = append(m.Answer, rr)
	wire, _ := m.Pack()
	f.Add(wire)
	f.Fuzz(func(t *testing.T, wire []byte) {
		reply := new(dns.Msg)
		if reply.Unpack(wire) != nil || !answers(query, reply) {
			return
		}
		a := read(query, reply)
		if (a.err == nil) != (len(a.addrs) > 0) || len(a.addrs) > maxAddrs || a.ttl < 0 || a.ttl > maxTTL {
			t.Fatalf("%+v", a)
		}
	})
}

func TestLocalhostAsksNobody(t *testing.T) {
	z := newZone(t, answering("localhost. 5 IN A 192.0.2.1", "a.localhost. 5 IN A 192.0.2.1"))
	r := &Resolver{Servers: []netip.AddrPort{z.addr}}
	for _, name := range []string{"localhost", "a.localhost"} {
		if got, err := r.Lookup(t.Context(), name); err != nil || !slices.Equal(got, addrs("127.0.0.1", "::1")) {
			t.Errorf("%s: %v, %v, want loopback", name, got, err)
		}
	}
	if n := z.queries.Load(); n != 0 {
		t.Errorf("%d questions were asked", n)
	}
}
