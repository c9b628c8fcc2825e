package supervise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	buildkit "github.com/moby/buildkit/api/services/control"

	"github.com/buildcage/buildcage/internal/cage/api"
	"github.com/buildcage/buildcage/internal/contract"
)

const (
	buildkitConf = "/run/buildkit/buildkitd.toml"
	cniConf      = "/run/buildkit/cage.conflist"
	cniBin       = "/opt/cni/bin"
	// cniPool is how many networks for steps are kept ready.
	cniPool = 4
	// stopGrace is what buildkitd gets to close its databases.
	stopGrace = 3 * time.Second
	// reserved is the part of the cache that old age alone does not remove: one in so many.
	reserved = 10
	// connectEvery is the pause between attempts to connect while it starts.
	connectEvery = 5 * time.Millisecond
)

// runBuildKit starts stock buildkitd and waits until it answers.
func (p *parts) runBuildKit(boot, life context.Context) (down, error) {
	if err := p.configureBuildKit(); err != nil {
		return nil, err
	}
	env := []string{
		"PATH=" + contract.BinDir, "HOME=/run/buildkit", "TMPDIR=/tmp", "XDG_RUNTIME_DIR=/run/buildkit",
		"SSL_CERT_FILE=" + contract.CABundle,
	}
	args, traces := p.tracing()
	argv := append([]string{filepath.Join(contract.BinDir, "buildkitd"), "--config", buildkitConf}, args...)
	env = append(env, traces...)
	if p.config.Debug {
		argv = append(argv, "--debug")
	}
	daemon, err := p.children.start(p.log, "buildkitd", argv, env)
	if err != nil {
		return nil, err
	}
	p.say(contract.Status{State: contract.StateStarting})
	stopping := make(chan struct{})
	stop := func(ctx context.Context) error {
		close(stopping)
		return daemon.stop(ctx, stopGrace)
	}
	go func() {
		<-daemon.done
		select {
		case <-stopping:
		default:
			p.fail("buildkit", daemon.err())
		}
	}()
	p.buildkit, err = ready(boot)
	return stop, err
}

// ready waits until buildkitd answers and returns its version.
func ready(boot context.Context) (version string, err error) {
	tick := time.NewTicker(connectEvery)
	defer tick.Stop()
	for {
		conn, err := net.Dial("unix", contract.BuildKitSocket)
		if err == nil {
			conn.Close()
			break
		}
		select {
		case <-tick.C:
		case <-boot.Done():
			return "", fmt.Errorf("waiting for buildkitd: %w", context.Cause(boot))
		}
	}
	cc, err := api.Dial(contract.BuildKitSocket)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, cc.Close()) }()
	info, err := buildkit.NewControlClient(cc).Info(boot, &buildkit.InfoRequest{})
	if err != nil {
		return "", fmt.Errorf("asking buildkitd: %w", err)
	}
	return info.GetBuildkitVersion().GetVersion(), nil
}

func (p *parts) configureBuildKit() error {
	if err := os.MkdirAll(filepath.Dir(buildkitConf), 0o700); err != nil {
		return fmt.Errorf("configuring buildkitd: %w", err)
	}
	if err := os.WriteFile(buildkitConf, []byte(daemonConfig(p.plan.IPv6, p.config)), 0o600); err != nil {
		return fmt.Errorf("configuring buildkitd: %w", err)
	}
	conflist, err := networkConfig(p.plan.MTU)
	if err != nil {
		return fmt.Errorf("configuring step networks: %w", err)
	}
	if err := os.WriteFile(cniConf, conflist, 0o600); err != nil {
		return fmt.Errorf("configuring step networks: %w", err)
	}
	return nil
}

// daemonConfig is buildkitd.toml: one worker, steps in networks of ours only,
// no listener but the socket, no entitlement.
func daemonConfig(ipv6 bool, config contract.Boot) string {
	nameservers := fmt.Sprintf("%q", contract.Listen4)
	if ipv6 {
		nameservers += fmt.Sprintf(", %q", contract.Listen6)
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("root = %q", contract.StateDir)
	line("insecure-entitlements = []")
	line("[log]\n  format = \"text\"")
	line("[grpc]\n  address = [%q]", "unix://"+contract.BuildKitSocket)
	line("[cdi]\n  disabled = true")
	line("[dns]\n  nameservers = [%s]", nameservers)
	line("[worker.containerd]\n  enabled = false")
	line("[worker.oci]\n  enabled = true\n  gc = true")
	line("  binary = %q", filepath.Join(contract.BinDir, contract.CommandRuntime))
	line("  networkMode = \"cni\"")
	line("  cniConfigPath = %q", cniConf)
	line("  cniBinaryPath = %q", cniBin)
	line("  cniPoolSize = %d", cniPool)
	if config.MaxParallelism > 0 {
		line("  max-parallelism = %d", config.MaxParallelism)
	}
	if config.CacheMax > 0 {
		line("  maxUsedSpace = %d", config.CacheMax)
		line("  reservedSpace = %d", config.CacheMax/reserved)
	}
	return b.String()
}

// networkConfig is the CNI configuration of a step: a point-to-point link of
// its own, everything routed to us, nothing masqueraded. IPv6 is added when
// the step registers; see network.Join.
func networkConfig(mtu int) ([]byte, error) {
	type m = map[string]any
	ranges := [][]m{{{"subnet": contract.StepNet4.String()}}}
	routes := []m{{"dst": "0.0.0.0/0"}}
	return json.MarshalIndent(m{
		"cniVersion": "1.0.0", "name": "buildcage",
		"plugins": []m{{
			"type": "ptp", "ipMasq": false, "mtu": mtu,
			"ipam": m{"type": "host-local", "ranges": ranges, "routes": routes},
		}},
	}, "", "  ")
}
