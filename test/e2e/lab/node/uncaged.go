package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/cgroup"
	"github.com/buildcage/buildcage/internal/cage/mount"
	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// uncaged runs stock buildkitd without any of the cage: steps share the
// container's network, the resolver is the lab's, entitlements are granted. It
// is what every case that denies something must fail on.
func uncaged([]string) error {
	if err := errors.Join(mount.Private(), mount.Writable()); err != nil {
		return err
	}
	if unified, err := cgroup.Unified(cgroup.Root); err != nil {
		return err
	} else if unified {
		if err := cgroup.Delegate(cgroup.Root); err != nil {
			return err
		}
	}
	const conf = "/run/buildkitd.toml"
	if err := os.WriteFile(conf, []byte(`root = "/var/lib/buildkit"
insecure-entitlements = ["network.host", "security.insecure"]
[grpc]
  address = ["unix:///run/buildkit/buildkitd.sock"]
[cdi]
  disabled = true
[dns]
  nameservers = ["`+wire.Names+`"]
[worker.containerd]
  enabled = false
[worker.oci]
  enabled = true
  binary = "/bin/runc"
  networkMode = "host"
`), 0o600); err != nil {
		return fmt.Errorf("configuring buildkitd: %w", err)
	}
	env := []string{"PATH=/bin", "HOME=/run", "TMPDIR=/tmp", "XDG_RUNTIME_DIR=/run", "SSL_CERT_FILE=/ca.pem"}
	return fmt.Errorf("executing buildkitd: %w", unix.Exec("/bin/buildkitd", []string{"buildkitd", "--config", conf}, env))
}
