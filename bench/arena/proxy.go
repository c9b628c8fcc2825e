package arena

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/buildcage/buildcage/bench/load"
	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/policy"
)

// startCage runs caged's own parts, all but BuildKit, and registers the client as a step.
func (g *Gate) startCage(ctx context.Context, program string) (err error) {
	if g.Process, err = g.arena.start(ctx, g.here, g.arena.proxies(), program); err != nil {
		return err
	}
	every := policy.Text{Text: fmt.Sprintf("**.%s:{%d,%d,%d}", Name, load.PortEcho, load.PortStream, load.PortHold)}
	own := policy.Text{Text: fmt.Sprintf("%s:{%d,%d,%d}", Name, load.PortEcho, load.PortStream, load.PortHold)}
	boot := contract.Boot{
		Version: contract.BootVersion, RunID: "bench",
		Policy: policy.Spec{
			Mode:  policy.Restrict,
			Rules: policy.RuleTexts{HTTPS: []policy.Text{own, every}, HTTP: []policy.Text{{Text: Name + ":80"}}},
		},
		Resolvers: []netip.AddrPort{netip.MustParseAddrPort("10.200.0.1:53")},
	}
	if err := json.NewEncoder(g.in).Encode(boot); err != nil {
		return err
	}
	if err := g.expect(string(contract.StateReady)); err != nil {
		return err
	}
	if g.client, err = g.step(2); err != nil {
		return err
	}
	return g.register(ctx, g.client)
}

func (g *Gate) register(ctx context.Context, s *space) error {
	step, err := control.NewClient(contract.ControlSocket).Start(ctx, control.Start{
		Command: "bench client", NetNS: s.path(), PID: os.Getpid(),
	}, nil)
	if err != nil {
		return err
	}
	g.arena.later(func() error { return step.Exit(0) })
	return nil
}

// redirect is all that HAProxy's side has of a firewall.
const redirect = `table ip nat {
	chain pre {
		type nat hook prerouting priority dstnat;
		iifname "up0" accept
		tcp dport 80 redirect to :15080
		meta l4proto tcp redirect to :15001
	}
}
`

// haproxy reads the server name or the Host of each request, asks an ACL and
// passes on to a server that it knows: no names to resolve, no log.
const haproxy = `global
	maxconn %d
	maxpipes 128
defaults
	timeout connect 5s
	timeout client 10m
	timeout server 10m
	option splice-request
	option splice-response
frontend tls
	mode tcp
	bind :15001 backlog 16384
	tcp-request inspect-delay 10s
	acl known req.ssl_sni -i -m end %[2]s
	tcp-request content accept if { req.ssl_hello_type 1 } known
	tcp-request content reject
	default_backend origin_tls
backend origin_tls
	mode tcp
	server origin %[3]s
frontend http
	mode http
	bind :15080 backlog 16384
	acl known hdr(host) -i %[2]s
	http-request deny if !known
	default_backend origin_http
backend origin_http
	mode http
	server origin %[3]s:80
`

// spareFiles is what HAProxy keeps for pipes and itself beyond two descriptors a connection.
const spareFiles = 500

func (g *Gate) startHAProxy(ctx context.Context) error {
	if err := g.here.do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0) }); err != nil {
		return err
	}
	if err := g.here.nft(ctx, redirect); err != nil {
		return err
	}
	most, err := openFiles()
	if err != nil {
		return err
	}
	config := filepath.Join(g.arena.dir, "haproxy.cfg")
	text := fmt.Sprintf(haproxy, min(12000, (most-spareFiles)/2), Name, Origin)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return err
	}
	if g.Process, err = g.arena.start(ctx, g.here, g.arena.proxies(), "haproxy", "-db", "-f", config); err != nil {
		return err
	}
	if err := g.listens(ctx); err != nil {
		return err
	}
	g.client, err = g.step(2)
	return err
}

// listens waits until HAProxy does.
func (g *Gate) listens(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		err := g.here.do(func() error {
			conn, err := net.DialTimeout("tcp", "127.0.0.1:15001", time.Second)
			if err == nil {
				conn.Close()
			}
			return err
		})
		if err == nil {
			return nil
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
			_ = g.stop()
			return fmt.Errorf("%w: %s", err, g.log.String())
		}
	}
}
