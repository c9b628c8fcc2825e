// Command origin is the other end for builds that fetch from servers of
// their own: repositories over HTTPS and SSH, a registry, a file, a company's
// proxy, and the resolver that leads every name here. It runs in a container of the tests.
package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/miekg/dns"

	"github.com/buildcage/buildcage/test/e2e/lab/pki"
)

func main() {
	if err := run(os.Args[1:], os.Getenv("ORIGIN_TOKEN"), os.Getenv("ORIGIN_KEY")); err != nil {
		fmt.Fprintln(os.Stderr, "origin: error:", err)
		os.Exit(1)
	}
}

// run serves for ever. names are those of the repositories; token opens the
// private ones over HTTPS, key, an authorized_keys line, all over SSH.
func run(names []string, token, key string) error {
	if err := os.MkdirAll("/tmp", 0o777); err != nil {
		return err
	}
	if err := makeRepositories(names); err != nil {
		return fmt.Errorf("making repositories: %w", err)
	}
	self, err := address()
	if err != nil {
		return err
	}
	ca, err := pki.New()
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/v2/", registry.New(registry.Logger(log.New(os.Stdout, "registry ", 0))))
	mux.Handle("/", &gitServer{token: token})
	mux.HandleFunc("/file", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 64<<10)) })
	secure := &http.Server{Handler: mux, TLSConfig: &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) { return ca.Certificate(h.ServerName) },
	}}
	company := &http.Server{Addr: ":3128", Handler: companyProxy(self), ReadHeaderTimeout: time.Minute}
	failed := make(chan error)
	go func() { failed <- company.ListenAndServe() }()
	go func() { failed <- (&dns.Server{Addr: ":53", Net: "udp", Handler: leadTo(self)}).ListenAndServe() }()
	go func() { failed <- serveSSH(key) }()
	l, err := net.Listen("tcp", ":443")
	if err != nil {
		return err
	}
	go func() { failed <- secure.ServeTLS(l, "", "") }()
	plain, err := net.Listen("tcp", ":80")
	if err != nil {
		return err
	}
	// A server of its own: one that serves both may come to offer HTTP/2 and not speak it.
	go func() { failed <- (&http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}).Serve(plain) }()
	fmt.Println("origin: ready")
	return <-failed
}

// address is the container's own.
func address() (net.IP, error) {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil, err
	}
	for _, a := range list {
		if n, ok := a.(*net.IPNet); ok && !n.IP.IsLoopback() && n.IP.To4() != nil {
			return n.IP.To4(), nil
		}
	}
	return nil, errors.New("no address")
}

// leadTo answers every question for an address with this one.
func leadTo(self net.IP) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA && strings.HasSuffix(q.Question[0].Name, ".example.com.") {
			m.Answer = []dns.RR{&dns.A{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: self}}
		}
		_ = w.WriteMsg(m)
	})
}
