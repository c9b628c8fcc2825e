package cli

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"

	"github.com/buildcage/buildcage/internal/contract"
)

// noProxy is the value of --upstream-proxy that ignores the environment.
const noProxy = "none"

// upstreamProxy is the proxy in front of the network: what the flag says, else
// HTTPS_PROXY and NO_PROXY as other programs read them; nil for none. A proxy of
// the environment that the cage can't use is left out with a warning: without
// buildcage the steps would not use it either.
func (a *app) upstreamProxy(flag string, getenv func(string) string) (*contract.Proxy, error) {
	either := func(name, lower string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return getenv(lower)
	}
	except := either("NO_PROXY", "no_proxy")
	if flag == noProxy {
		return nil, nil
	}
	if flag != "" {
		if problem := proxyProblem(flag); problem != "" {
			return nil, usagef("write http://HOST:PORT, or none", "--upstream-proxy: %s", problem)
		}
		return &contract.Proxy{URL: flag, NoProxy: except}, nil
	}
	text := either("HTTPS_PROXY", "https_proxy")
	if text == "" {
		return nil, nil
	}
	if problem := proxyProblem(text); problem != "" {
		a.warn(fmt.Errorf("HTTPS_PROXY is not used: %s (--upstream-proxy none says that it is not meant)", problem))
		return nil, nil
	}
	return &contract.Proxy{URL: text, NoProxy: except}, nil
}

// proxyProblem says why the cage can't use a proxy, empty when it can. It does
// not repeat the URL, which may hold a password.
func proxyProblem(text string) string {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Hostname() == "":
		return "it is no URL"
	case u.Scheme != "http":
		return "only http:// proxies can be asked to connect"
	case u.Hostname() == "localhost" || isLoopback(u.Hostname()):
		return net.JoinHostPort(u.Hostname(), u.Port()) + " is this machine, where the cage has no way to"
	}
	return ""
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
