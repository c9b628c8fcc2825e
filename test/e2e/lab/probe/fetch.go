package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// exporterLabel is the origin's, see /exporter.
const exporterLabel = "EXPERIMENTAL-buildcage-lab"

type fetchFlags struct {
	method, host, sni, resolve, pin string
	headers                         stringList
	h1, follow, exporter            bool
	only4, only6                    bool
	h2c, chunked, sum               bool
	upload                          int64
	parallel, times                 int
	within                          time.Duration
}

type stringList []string

func (l *stringList) String() string     { return strings.Join(*l, ",") }
func (l *stringList) Set(s string) error { *l = append(*l, s); return nil }

// fetch is an ordinary HTTP client. --resolve ADDRESS dials that address
// whatever the URL names.
func (p *probe) fetch(args []string) error {
	var o fetchFlags
	f := p.flags("fetch")
	f.StringVar(&o.method, "X", http.MethodGet, "method")
	f.Var(&o.headers, "H", "header, repeatable")
	f.StringVar(&o.resolve, "resolve", "", "dial this address instead of the name's")
	f.StringVar(&o.host, "host", "", "Host header instead of the URL's")
	f.StringVar(&o.sni, "sni", "", "server name instead of the URL's")
	f.StringVar(&o.pin, "pin", "", "SHA-256 of the key that the server must have")
	f.BoolVar(&o.h1, "h1", false, "no HTTP/2")
	f.BoolVar(&o.follow, "L", false, "follow redirects")
	f.BoolVar(&o.exporter, "exporter", false, "send the connection's exported keys; for /exporter")
	f.BoolVar(&o.only4, "4", false, "IPv4 only")
	f.BoolVar(&o.only6, "6", false, "IPv6 only")
	f.BoolVar(&o.h2c, "h2c", false, "HTTP/2 in the clear, with prior knowledge")
	f.BoolVar(&o.chunked, "chunked", false, "--upload without a length")
	f.BoolVar(&o.sum, "sum", false, "print the SHA-256 of the body")
	f.DurationVar(&o.within, "within", 0, "say TOO SLOW unless the fastest round takes no longer")
	f.Int64Var(&o.upload, "upload", 0, "body of N bytes")
	f.IntVar(&o.parallel, "parallel", 1, "at once")
	f.IntVar(&o.times, "times", 1, "rounds")
	rest, err := parse(f, args, 1)
	if err != nil {
		return err
	}
	fastest := time.Duration(math.MaxInt64)
	for range o.times {
		start := time.Now()
		var all sync.WaitGroup
		for range o.parallel {
			all.Go(func() {
				for _, u := range rest {
					p.say("%s: %s", u, p.get(u, &o))
				}
			})
		}
		all.Wait()
		fastest = min(fastest, time.Since(start))
	}
	if o.within > 0 && fastest > o.within {
		p.say("TOO SLOW: %v", fastest)
	}
	return nil
}

// get returns one line about what became of it.
func (p *probe) get(address string, o *fetchFlags) string {
	u, err := url.Parse(address)
	if err != nil {
		return err.Error()
	}
	dial := func(ctx context.Context, network, addr string) (net.Conn, error) {
		if o.resolve != "" {
			_, port, _ := net.SplitHostPort(addr)
			addr = net.JoinHostPort(o.resolve, port)
		}
		switch {
		case o.only4:
			network = "tcp4"
		case o.only6:
			network = "tcp6"
		}
		return (&net.Dialer{Timeout: p.timeout}).DialContext(ctx, network, addr)
	}
	t := &http.Transport{DialContext: dial, TLSHandshakeTimeout: p.timeout, ForceAttemptHTTP2: !o.h1, Proxy: http.ProxyFromEnvironment}
	t.TLSClientConfig = &tls.Config{ServerName: o.sni}
	if o.h2c {
		t.Protocols = &http.Protocols{}
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	if o.exporter {
		t.DialTLSContext, t.ForceAttemptHTTP2 = nil, false
	}
	defer t.CloseIdleConnections()
	client := &http.Client{Transport: t, Timeout: 10 * p.timeout}
	if !o.follow {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	req, err := http.NewRequest(o.method, address, nil)
	if err != nil {
		return err.Error()
	}
	if o.upload > 0 {
		req.Body, req.ContentLength = io.NopCloser(io.LimitReader(zeros{}, o.upload)), o.upload
		if o.chunked {
			req.ContentLength = -1
		}
	}
	req.Host = o.host
	for _, h := range o.headers {
		name, value, _ := strings.Cut(h, ":")
		req.Header.Set(name, strings.TrimSpace(value))
	}
	if o.exporter {
		return p.export(req, u, dial, o)
	}
	res, err := client.Do(req)
	if err != nil {
		return err.Error()
	}
	return describe(res, o)
}

func describe(res *http.Response, o *fetchFlags) string {
	defer res.Body.Close()
	head, digest := make([]byte, 200), sha256.New()
	body := io.TeeReader(res.Body, digest)
	if !o.sum {
		body = res.Body
	}
	n, _ := io.ReadFull(body, head)
	more, err := io.Copy(io.Discard, body)
	text := fmt.Sprintf("%s %s %d bytes %s", res.Proto, res.Status, int64(n)+more, brief(head[:n]))
	if res.TLS != nil {
		text += fmt.Sprintf(" alpn=%q key=%s", res.TLS.NegotiatedProtocol, keyOf(res.TLS))
		if o.pin != "" && o.pin != keyOf(res.TLS) {
			text += " WRONG KEY"
		}
	}
	if o.sum {
		text += fmt.Sprintf(" sha256=%x", digest.Sum(nil))
	}
	if err != nil {
		text += " broke off: " + err.Error()
	}
	return text
}

func keyOf(s *tls.ConnectionState) string {
	if len(s.PeerCertificates) == 0 {
		return ""
	}
	sum := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// export shakes hands first, so that the request can carry the keys.
func (p *probe) export(req *http.Request, u *url.URL, dial func(context.Context, string, string) (net.Conn, error), o *fetchFlags) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	raw, err := dial(context.Background(), "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return err.Error()
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(2 * p.timeout))
	c := tls.Client(raw, &tls.Config{ServerName: u.Hostname(), NextProtos: []string{"http/1.1"}})
	if err := c.Handshake(); err != nil {
		return err.Error()
	}
	state := c.ConnectionState()
	key, err := state.ExportKeyingMaterial(exporterLabel, nil, 32)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("X-Exporter", hex.EncodeToString(key))
	req.Close = true
	t := &http.Transport{DialTLSContext: func(context.Context, string, string) (net.Conn, error) { return c, nil }}
	res, err := (&http.Client{Transport: t, Timeout: 2 * p.timeout}).Do(req)
	if err != nil {
		return err.Error()
	}
	res.TLS = &state
	return describe(res, o)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

// live is what the harness runs behind every case, in the same cage: an
// allowed fetch must pass, a denied one must fail. In audit the denied one is
// one that no mode lets through: TLS without a server name.
func (p *probe) live(args []string) error {
	if len(args) != 1 || args[0] != "restrict" && args[0] != "audit" {
		return fatalf("live restrict|audit")
	}
	allowed := p.get("https://alive.test/live", &fetchFlags{method: http.MethodGet})
	p.say("allowed: %s", allowed)
	var denied string
	if args[0] == "restrict" {
		denied = p.get("https://dead.test/live", &fetchFlags{method: http.MethodGet})
	} else {
		o := &tlsFlags{noSNI: true, truncate: -1}
		m := o.hello("", 1).message()
		answer, err := p.exchange("dead.test:443", records(m, 0x0301), o)
		denied = fmt.Sprint(answer, err)
	}
	p.say("denied: %s", denied)
	if !strings.Contains(allowed, "200 OK") || strings.Contains(denied, "200 OK") || strings.Contains(denied, "server hello") {
		p.expect = "the cage is alive"
		return errors.New("the cage is not alive")
	}
	return nil
}

// wait holds the step until the harness has done what the case's hook says.
func (p *probe) wait([]string) error {
	p.timeout = time.Minute
	p.say("hook: %s", p.get("https://alive.test/wait", &fetchFlags{method: http.MethodGet, h1: true}))
	return nil
}
