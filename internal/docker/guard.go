package docker

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"
)

// Addresses are the engine's own: the gateway of each of its networks, where
// its machine listens, its swarm address, and the address it is reached at. No
// build has business there. An engine that does not tell is an error.
func (e *Engine) Addresses(ctx context.Context) ([]netip.Prefix, error) {
	networks, err := e.Client.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing the engine's networks: %w", err)
	}
	info, err := e.Client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return nil, fmt.Errorf("asking the engine for its addresses: %w", err)
	}
	var addrs []netip.Addr
	for _, n := range networks.Items {
		addrs = append(addrs, gateways(n.IPAM.Config)...)
	}
	if a, err := netip.ParseAddr(info.Info.Swarm.NodeAddr); err == nil {
		addrs = append(addrs, a)
	}
	addrs = append(addrs, hostAddresses(ctx, e.Client.DaemonHost())...)
	return hostPrefixes(addrs), nil
}

// gateways names the first address of a subnet where the engine does not say
// which it took: that is the one it takes.
func gateways(configs []network.IPAMConfig) []netip.Addr {
	var addrs []netip.Addr
	for _, c := range configs {
		switch {
		case c.Gateway.IsValid():
			addrs = append(addrs, c.Gateway)
		case c.Subnet.IsValid():
			addrs = append(addrs, c.Subnet.Masked().Addr().Next())
		}
	}
	return addrs
}

// lookupTime bounds the look-up of the engine's own name. It is a courtesy: the
// name resolved a moment ago, for the first request.
const lookupTime = 2 * time.Second

// hostAddresses are those of a DOCKER_HOST that names a machine.
func hostAddresses(ctx context.Context, host string) []netip.Addr {
	u, err := url.Parse(host)
	if err != nil || u.Hostname() == "" || strings.HasPrefix(host, "unix:") || strings.HasPrefix(host, "npipe:") {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, lookupTime)
	defer cancel()
	addrs, _ := net.DefaultResolver.LookupNetIP(short, "ip", u.Hostname())
	return addrs
}

func hostPrefixes(addrs []netip.Addr) []netip.Prefix {
	var prefixes []netip.Prefix
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if a.IsValid() {
			prefixes = append(prefixes, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	slices.SortFunc(prefixes, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return slices.Compact(prefixes)
}
