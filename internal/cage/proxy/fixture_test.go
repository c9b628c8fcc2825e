package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/cage/upstream"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// In these tests the loopback addresses stand for the world: the step is
// 127.0.0.1, public origins are 127.0.0.2, a private one is 127.0.0.3. The
// guard is the real one otherwise.
var (
	public  = netip.MustParseAddr("127.0.0.2")
	private = netip.MustParseAddr("127.0.0.3")
)

// lab is a proxy with one step.
type lab struct {
	*testing.T
	server  *proxy.Server
	addr    string
	events  chan *event.Conn
	stop    context.CancelFunc
	stopped chan error

	mu      sync.Mutex
	changed sync.Cond
	orig    map[string]netip.AddrPort // by the client's address
	answers map[string][]netip.Addr
	lookups []string
}

// names have a fake address each, in this order.
func names() []string {
	return []string{"allowed.example.com", "blocked.example.com", "other.example.com", "git.example.com", "gone.example.com"}
}

func fakeOf(name string) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, 1, byte(1 + slices.Index(names(), name))})
}

func texts(rules ...string) (list []policy.Text) {
	for _, r := range rules {
		list = append(list, policy.Text{Text: r})
	}
	return list
}

// anyPort allows allowed.example.com and other.example.com everywhere.
func anyPort() policy.Spec {
	list := texts("allowed.example.com:*", "other.example.com:*")
	return policy.Spec{Rules: policy.RuleTexts{HTTPS: list, HTTP: list}}
}

func inAudit(spec policy.Spec) policy.Spec {
	spec.Mode = policy.Audit
	return spec
}

func newLab(t *testing.T, spec policy.Spec, options ...func(*proxy.Server)) *lab {
	t.Helper()
	p, err := policy.Compile(spec)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{T: t, events: make(chan *event.Conn, 4096), orig: map[string]netip.AddrPort{}, answers: map[string][]netip.Addr{}}
	l.changed.L = &l.mu
	for _, name := range names()[:4] {
		l.answers[name] = []netip.Addr{public}
	}
	guard := policy.NewGuard([]netip.Prefix{netip.MustParsePrefix("192.0.2.99/32")})
	builder := &step.Step{Step: event.Step{ID: event.BuilderStep}, Scope: p.For(policy.Step{Builder: true}), Builder: true}
	l.server = &proxy.Server{
		Steps: new(step.Table), Own: func(netip.Addr) bool { return false },
		Builder: func(string) *step.Step { return builder },
		NameOf: func(a netip.Addr) (string, bool) {
			i := slices.IndexFunc(names(), func(n string) bool { return fakeOf(n) == a })
			if i < 0 {
				return "", false
			}
			return names()[i], true
		},
		Dialer: &upstream.Dialer{Lookup: l.lookup, Check: func(a netip.Addr) policy.Class {
			switch a {
			case public:
				return policy.Public
			case private:
				return policy.Private
			}
			return guard.Check(a)
		}},
		Record:   func(r event.Record) { l.events <- r.Conn },
		Original: l.original,
		Limits:   proxy.Limits{Quiet: 200 * time.Millisecond, Refuse: 400 * time.Millisecond},
	}
	l.server.Steps.Register(l.step(p, policy.Step{}))
	for _, option := range options {
		option(l.server)
	}
	l.serve()
	return l
}

func (l *lab) step(p *policy.Policy, s policy.Step) *step.Step {
	return &step.Step{
		Step:  event.Step{ID: "s1", Addrs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}},
		Scope: p.For(s),
	}
}

func (l *lab) serve() {
	listener, err := proxy.Listen(l.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		l.Fatal(err)
	}
	l.addr = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	l.stop, l.stopped = cancel, make(chan error, 1)
	go func() { l.stopped <- l.server.Serve(ctx, listener) }()
	l.Cleanup(func() {
		cancel()
		over, done := context.WithTimeout(context.Background(), 10*time.Millisecond)
		defer done()
		l.server.Drain(over)
		select {
		case ev := <-l.events:
			l.Errorf("event that nobody expected: %+v", ev)
		default:
		}
		if n := l.server.Panics.Load(); n > 0 {
			l.Errorf("%d panics", n)
		}
	})
}

func (l *lab) lookup(_ context.Context, name string) ([]netip.Addr, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lookups = append(l.lookups, name)
	if addrs := l.answers[name]; addrs != nil {
		return addrs, nil
	}
	return nil, &upstream.NameError{Name: name, Err: upstream.ErrNoSuchName}
}

// original waits until the client has said where it wants to go.
func (l *lab) original(_ int, client netip.AddrPort) (netip.AddrPort, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if to, ok := l.orig[client.String()]; ok {
			delete(l.orig, client.String()) // another connection may get its port
			return to, nil
		}
		l.changed.Wait()
	}
}

// dial connects to the proxy as the redirect does for a connection to to:port.
func (l *lab) dial(to netip.Addr, port int) *net.TCPConn {
	l.Helper()
	conn := l.silent()
	l.toward(conn, to, port)
	return conn
}

// silent connects to the proxy, which waits to learn where toward.
func (l *lab) silent() *net.TCPConn {
	l.Helper()
	conn, err := net.Dial("tcp", l.addr)
	if err != nil {
		l.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	l.Cleanup(func() { conn.Close() })
	return conn.(*net.TCPConn)
}

func (l *lab) toward(conn *net.TCPConn, to netip.Addr, port int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.orig[conn.LocalAddr().String()] = netip.AddrPortFrom(to, uint16(port))
	l.changed.Broadcast()
}

func (l *lab) named(name string, port int) *net.TCPConn {
	l.Helper()
	return l.dial(fakeOf(name), port)
}

// next is the next event.
func (l *lab) next() *event.Conn {
	l.Helper()
	select {
	case ev := <-l.events:
		return ev
	case <-time.After(20 * time.Second):
		l.Fatal("no event")
		return nil
	}
}

// want checks verdict, protocol, name and reason of the next event.
func (l *lab) want(verdict event.Verdict, protocol, name string, reason event.Reason) *event.Conn {
	l.Helper()
	ev := l.next()
	if ev.Verdict != verdict || ev.Protocol != protocol || ev.Name != name || ev.Reason != reason {
		l.Errorf("event %s %s %q %s (%s), want %s %s %q %s",
			ev.Verdict, ev.Protocol, ev.Name, ev.Reason, ev.Detail, verdict, protocol, name, reason)
	}
	if ev.Verdict == event.Blocked && ev.Down > 0 {
		l.Errorf("blocked, but %d bytes came down", ev.Down)
	}
	return ev
}

// origin is a server at addr that counts what reaches it.
type origin struct {
	port  int
	conns atomic.Int64
	bytes atomic.Int64
	log   chan string // one line a request, or what a plain client sent
}

type countingConn struct {
	net.Conn
	o *origin
}

func (c countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.o.bytes.Add(int64(n))
	return n, err
}

type countingListener struct {
	net.Listener
	o *origin
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.o.conns.Add(1)
	return countingConn{c, l.o}, nil
}

func (l *lab) listen(addr netip.Addr) (*origin, net.Listener) {
	l.Helper()
	listener, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		l.Fatal(err)
	}
	o := &origin{port: listener.Addr().(*net.TCPAddr).Port, log: make(chan string, 1024)}
	l.Cleanup(func() { listener.Close() })
	return o, countingListener{listener, o}
}

// http starts a web server; without a handler it echoes method, host and body length.
func (l *lab) http(handler http.HandlerFunc, secure bool) *origin {
	l.Helper()
	o, listener := l.listen(public)
	if handler == nil {
		handler = func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			o.log <- r.Method + " " + r.Host + " " + r.RequestURI + " " + strconv.Itoa(len(body))
			io.WriteString(w, "hello from "+r.Host)
		}
	}
	server := httptest.NewUnstartedServer(handler)
	server.Listener.Close()
	server.Listener = listener
	server.Config.ErrorLog = nil
	if secure {
		server.StartTLS()
	} else {
		server.Start()
	}
	l.Cleanup(server.Close)
	return o
}

// plain starts a server that hands every connection to f.
func (l *lab) plain(addr netip.Addr, f func(net.Conn)) *origin {
	l.Helper()
	o, listener := l.listen(addr)
	go func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				f(c)
			}()
		}
	}()
	return o
}

// untouched fails when anything reached o.
func (l *lab) untouched(o *origin) {
	l.Helper()
	if n := o.conns.Load(); n != 0 {
		l.Errorf("%d connections reached the origin", n)
	}
}

func (l *lab) lookedUp() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lookups)
}

// exchange sends text and returns all that comes back.
func exchange(t testing.TB, conn *net.TCPConn, text string) string {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil && !strings.Contains(err.Error(), "reset by peer") {
		t.Fatal(err)
	}
	return string(answer)
}

// wasReset reads until the connection ends and wants a reset.
func wasReset(t testing.TB, conn *net.TCPConn) {
	t.Helper()
	b, err := io.ReadAll(conn)
	if err == nil || !strings.Contains(err.Error(), "reset by peer") {
		t.Errorf("read %q and %v, want a reset", b, err)
	}
}

// helloFor is the first flight of a crypto/tls client.
func helloFor(name string) []byte {
	client, server := net.Pipe()
	defer client.Close()
	go func() {
		_ = tls.Client(client, &tls.Config{ServerName: name, InsecureSkipVerify: true}).Handshake()
	}()
	defer server.Close()
	head := make([]byte, 5)
	io.ReadFull(server, head)
	body := make([]byte, int(head[3])<<8|int(head[4]))
	io.ReadFull(server, body)
	return append(head, body...)
}

// wantAlert reads one fatal alert and the end.
func wantAlert(t testing.TB, conn *net.TCPConn, code byte) {
	t.Helper()
	b, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(b, []byte{21, 3, 3, 0, 2, 2, code}) {
		t.Errorf("read % x and %v, want alert %d", b, err, code)
	}
}

var errScripted = errors.New("scripted")
