package git

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
)

const (
	service      = "git-upload-pack"
	discovery    = "/info/refs?service=" + service
	maxRedirects = 10
	// maxRefs is how large the list of references may be, which is kept in memory.
	maxRefs = 256 << 20
	// maxRequest is how large a request may be: what git has and wants.
	maxRequest = 64 << 20
)

// server is the repository at the other end. It is only ever read.
type server struct {
	base   string      // address of the repository, without credentials
	header http.Header // goes with every request to the host of base
	client *http.Client
	v2     bool // whether the server was found to speak protocol version 2
}

// dial prepares to speak to the repository at address with the headers that
// git is configured to send there. It does not connect.
func (p Program) dial(ctx context.Context, address string) (*server, error) {
	u, err := url.Parse(address)
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" {
		return nil, errors.New("the address of the repository is not one of HTTP")
	}
	s := &server{header: make(http.Header)}
	if u.User != nil {
		password, _ := u.User.Password()
		r := http.Request{Header: s.header}
		r.SetBasicAuth(u.User.Username(), password)
		u.User = nil
	}
	if u.RawQuery != "" || u.ForceQuery {
		return nil, errors.New("the address of the repository has a query")
	}
	u.Fragment = ""
	s.base = strings.TrimSuffix(u.String(), "/")
	if err := p.configure(ctx, address, s.header); err != nil {
		return nil, err
	}
	roots, err := roots(p.CA)
	if err != nil {
		return nil, err
	}
	s.client = &http.Client{CheckRedirect: s.follow, Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: time.Minute}).DialContext,
		TLSClientConfig:     &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout: time.Minute,
	}}
	return s, nil
}

func roots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading root certificates: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("reading root certificates: none in %s", file)
	}
	return pool, nil
}

// configure adds the headers that git is configured to send to address, which
// is how BuildKit hands in credentials.
func (p Program) configure(ctx context.Context, address string, header http.Header) error {
	out, err := exec.CommandContext(ctx, p.Git, "config", "-z", "--get-urlmatch", "http", address).Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 1 {
		return nil // nothing is configured
	}
	if err != nil {
		return fmt.Errorf("reading git's configuration: %w", err)
	}
	for entry := range strings.SplitSeq(string(out), "\x00") {
		key, value, _ := strings.Cut(entry, "\n")
		if key != "http.extraheader" {
			continue
		}
		name, text, ok := strings.Cut(value, ":")
		if !ok || strings.ContainsAny(value, "\r\n") {
			return errors.New("http.extraheader is not a header")
		}
		header.Set(strings.TrimSpace(name), strings.TrimSpace(text))
	}
	return nil
}

// follow allows redirects of the first request, as git does, but none that
// gives up encryption, and none that takes credentials to another host or port.
func (s *server) follow(r *http.Request, via []*http.Request) error {
	switch {
	case via[0].Method != http.MethodGet:
		return errors.New("the server redirects a request with content")
	case len(via) > maxRedirects:
		return errors.New("too many redirects")
	case via[0].URL.Scheme == "https" && r.URL.Scheme != "https":
		return errors.New("the server redirects away from HTTPS")
	case via[0].URL.Host != r.URL.Host:
		for name := range s.header {
			r.Header.Del(name)
		}
	}
	return nil
}

// discover asks what the repository has. The answer, which the caller closes,
// begins with the first packet of the protocol.
func (s *server) discover(ctx context.Context, version string) (io.ReadCloser, error) {
	resp, err := s.do(ctx, http.MethodGet, discovery, version, nil, "application/x-"+service+"-advertisement")
	if err != nil {
		return nil, err
	}
	if err := s.moved(resp.Request.URL); err != nil {
		resp.Body.Close()
		return nil, err
	}
	return resp.Body, nil
}

// moved makes the place that discovery ended at the address of the repository.
// Another host does not get what was meant for the first one.
func (s *server) moved(end *url.URL) error {
	base, ok := strings.CutSuffix(end.String(), discovery)
	if !ok {
		return fmt.Errorf("the server redirects to %s, which is no repository", end.Redacted())
	}
	if before, err := url.Parse(s.base); err != nil || before.Host != end.Host {
		s.header = make(http.Header)
	}
	s.base = base
	return nil
}

// call sends one request of the protocol. The caller closes the answer.
func (s *server) call(ctx context.Context, version string, request []byte) (io.ReadCloser, error) {
	resp, err := s.do(ctx, http.MethodPost, "/"+service, version, request, "application/x-"+service+"-result")
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (s *server) do(ctx context.Context, method, path, version string, body []byte, kind string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, s.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the address of the repository can't be asked")
	}
	for name, values := range s.header {
		r.Header[name] = values
	}
	r.Header.Set("User-Agent", "git/2.39 (buildcage)")
	r.Header.Set("Accept", kind)
	if version != "" {
		r.Header.Set("Git-Protocol", version)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-"+service+"-request")
	} else {
		r.Header.Set("Pragma", "no-cache")
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return nil, s.fail(s.place(err))
	}
	if err := check(resp, kind); err != nil {
		resp.Body.Close()
		return nil, s.fail(err)
	}
	return resp, nil
}

// place takes the address off an error of a request, which fail adds, unless a
// redirect led to another host.
func (s *server) place(err error) error {
	var of *url.Error
	if !errors.As(err, &of) {
		return err
	}
	end, bad := url.Parse(of.URL)
	if base, worse := url.Parse(s.base); bad == nil && worse == nil && end.Host != base.Host {
		return fmt.Errorf("redirected to %s: %w", end.Host, of.Err)
	}
	return of.Err
}

// fail words an error as git does.
func (s *server) fail(err error) error { return fmt.Errorf("unable to access '%s/': %w", s.base, err) }

func check(resp *http.Response, kind string) error {
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return errors.New("authentication failed: the server asks for credentials; pass them with --secret id=GIT_AUTH_TOKEN")
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("the requested URL returned error: %d", resp.StatusCode)
	case resp.Header.Get("Content-Type") != kind:
		return errors.New("the server does not speak git's smart protocol")
	}
	return nil
}
