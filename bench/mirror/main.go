// Command mirror stands for every host that a build fetches from: it answers every
// name with its own address, fetches each object once from where it really is,
// and from then on serves it from a file. Builds that are compared then do not
// compare the moods of a network. It runs in a container of its own.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"time"

	"github.com/miekg/dns"
)

func main() {
	fmt.Fprintf(os.Stderr, "mirror: error: %v\n", run("/mirror.files"))
	os.Exit(1)
}

// run serves names on port 53, HTTP on 80 and HTTPS on 443, and returns only
// when one of them has failed. In dir are the authority that its certificates
// are of, and the authorities of the real hosts.
func run(dir string) error {
	own, err := address()
	if err != nil {
		return err
	}
	authority, err := tls.LoadX509KeyPair(dir+"/authority.pem", dir+"/authority.key")
	if err != nil {
		return fmt.Errorf("loading the authority: %w", err)
	}
	bundle, err := os.ReadFile(dir + "/bundle.pem")
	if err != nil {
		return fmt.Errorf("loading the bundle: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	objects, err := newCache(dir+"/objects", &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots}, DisableCompression: true, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 8,
	})
	if err != nil {
		return err
	}
	failed := make(chan error)
	names := &dns.Server{Addr: ":53", Net: "udp", Handler: answer(own)}
	plain := &http.Server{Addr: ":80", Handler: objects, ReadHeaderTimeout: time.Minute}
	secure := &http.Server{
		Addr: ":443", Handler: objects, ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{GetCertificate: (&issuer{authority: authority}).certificate},
	}
	go func() { failed <- names.ListenAndServe() }()
	go func() { failed <- secure.ListenAndServeTLS("", "") }()
	go func() { failed <- plain.ListenAndServe() }()
	return <-failed
}

// address is the container's own.
func address() (netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && !p.Addr().IsLoopback() {
			return p.Addr(), nil
		}
	}
	return netip.Addr{}, errors.New("this container has no address")
}

// answer gives every name the one address, and nothing else.
func answer(own netip.Addr) dns.HandlerFunc {
	return func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		m.RecursionAvailable = true
		if len(q.Question) == 1 && q.Question[0].Qtype == dns.TypeA {
			m.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}, A: own.AsSlice(),
			}}
		}
		_ = w.WriteMsg(m) // who asked asks again
	}
}
