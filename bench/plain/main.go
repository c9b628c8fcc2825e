// Command plain is what a BuildKit container does without a cage: it makes the
// container fit and becomes buildkitd. Steps share the container's network.
package main

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/cgroup"
	"github.com/buildcage/buildcage/internal/cage/mount"
)

const config = `root = "/var/lib/buildkit"
[grpc]
  address = ["unix:///run/buildkit/buildkitd.sock"]
[cdi]
  disabled = true
[worker.containerd]
  enabled = false
[worker.oci]
  enabled = true
  binary = "/bin/runc"
  networkMode = "host"
`

func main() {
	fmt.Fprintf(os.Stderr, "plain: error: %v\n", run())
	os.Exit(1)
}

// run returns only when it has failed.
func run() error {
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
	const file = "/run/buildkitd.toml"
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return fmt.Errorf("configuring buildkitd: %w", err)
	}
	env := []string{"PATH=/bin", "HOME=/run", "TMPDIR=/tmp", "XDG_RUNTIME_DIR=/run"}
	return fmt.Errorf("executing buildkitd: %w", unix.Exec("/bin/buildkitd", []string{"buildkitd", "--config", file}, env))
}
