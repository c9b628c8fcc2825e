// Command plain is what a BuildKit container does without a cage: it makes the
// container fit and becomes buildkitd. Steps share the container's network.
// As buildctl it is how buildx gets to that.
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

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

const socket = "/run/buildkit/buildkitd.sock"

func main() {
	do := run
	if filepath.Base(os.Args[0]) == "buildctl" {
		do = dial
	}
	if err := do(); err != nil {
		fmt.Fprintf(os.Stderr, "plain: error: %v\n", err)
		os.Exit(1)
	}
}

// dial is "buildctl dial-stdio".
func dial() error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	go func() {
		_, _ = io.Copy(conn, os.Stdin) // its end is the end
		conn.Close()
	}()
	_, _ = io.Copy(os.Stdout, conn)
	return nil
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
