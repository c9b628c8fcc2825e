package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// proxyUser and proxyPassword open the company's proxy.
const (
	proxyUser     = "corp"
	proxyPassword = "made-up"
)

// companyProxy connects every name that it is asked for to this server, and
// says whom it was asked for.
func companyProxy(self net.IP) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Set("Authorization", r.Header.Get("Proxy-Authorization"))
		if user, password, _ := r.BasicAuth(); user != proxyUser || password != proxyPassword {
			w.Header().Set("Proxy-Authenticate", "Basic")
			w.WriteHeader(http.StatusProxyAuthRequired)
			return
		}
		_, port, err := net.SplitHostPort(r.Host)
		if r.Method != http.MethodConnect || err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Println("proxy CONNECT", r.Host)
		origin, err := net.DialTimeout("tcp", net.JoinHostPort(self.String(), port), 10*time.Second)
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer origin.Close()
		client, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer client.Close()
		_, _ = io.WriteString(client, "HTTP/1.1 200 Connection established\r\n\r\n")
		go func() { _, _ = io.Copy(client, origin); client.Close() }()
		_, _ = io.Copy(origin, buffered)
	})
}
