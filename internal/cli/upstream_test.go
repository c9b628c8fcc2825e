package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/contract"
)

func TestUpstreamProxy(t *testing.T) {
	const url = "http://proxy.example.com:3128"
	for name, c := range map[string]struct {
		flag string
		env  map[string]string
		want *contract.Proxy
		warn string
		err  string
	}{
		"nothing":       {},
		"environment":   {env: map[string]string{"HTTPS_PROXY": url, "NO_PROXY": "a,b"}, want: &contract.Proxy{URL: url, NoProxy: "a,b"}},
		"lower case":    {env: map[string]string{"https_proxy": url, "no_proxy": "c"}, want: &contract.Proxy{URL: url, NoProxy: "c"}},
		"only http":     {env: map[string]string{"HTTP_PROXY": url}},
		"turned off":    {flag: "none", env: map[string]string{"HTTPS_PROXY": url}},
		"flag wins":     {flag: url, env: map[string]string{"HTTPS_PROXY": "http://other.example.com", "NO_PROXY": "d"}, want: &contract.Proxy{URL: url, NoProxy: "d"}},
		"local":         {env: map[string]string{"HTTPS_PROXY": "http://user:secret@127.0.0.1:3128"}, warn: "127.0.0.1:3128 is this machine"},
		"local, v6":     {env: map[string]string{"HTTPS_PROXY": "http://[::1]:3128"}, warn: "is this machine"},
		"socks":         {env: map[string]string{"HTTPS_PROXY": "socks5://user:secret@proxy.example.com"}, warn: "only http://"},
		"bad flag":      {flag: "proxy.example.com:3128", err: "--upstream-proxy: it is no URL"},
		"flag, local":   {flag: "http://localhost:3128", err: "is this machine"},
		"flag, no host": {flag: "http://", err: "it is no URL"},
	} {
		t.Run(name, func(t *testing.T) {
			stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
			if err != nil {
				t.Fatal(err)
			}
			defer stderr.Close()
			a := &app{streams: &streams{err: stderr}}
			got, err := a.upstreamProxy(c.flag, func(k string) string { return c.env[k] })
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("error %v, want %q", err, c.err)
			}
			said, err := os.ReadFile(stderr.Name())
			if text := string(said); err != nil || (text == "") != (c.warn == "") || !strings.Contains(text, c.warn) || strings.Contains(text, "secret") {
				t.Errorf("warned %q, %v; want %q", text, err, c.warn)
			}
		})
	}
}
