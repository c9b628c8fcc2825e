package buildx

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"

	"github.com/docker/buildx/util/desktop"
)

// writeNodeID gives the store the identity that BuildKit's incremental
// context transfer is keyed with. buildx draws a random one per store; ours is
// new for every run, so a random one would send the whole context every time.
func writeNodeID(dir string) error {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "buildcage/%s/%d", host, os.Getuid()))
	id := hex.EncodeToString(sum[:8])
	if err := os.WriteFile(filepath.Join(dir, ".buildNodeID"), []byte(id), 0o600); err != nil {
		return fmt.Errorf("writing the builder's node identity: %w", err)
	}
	return nil
}

// NoDesktop keeps buildx from printing links to Docker Desktop's build
// history: that program knows nothing of a builder which is gone when the link
// is read. buildx asks the home directory once and remembers; there is no
// switch. Call it while the process has one goroutine.
func NoDesktop() {
	var back []func()
	for _, name := range []string{"HOME", "USERPROFILE", "home"} {
		if old, ok := os.LookupEnv(name); ok {
			_ = os.Unsetenv(name)
			back = append(back, func() { _ = os.Setenv(name, old) })
		}
	}
	desktop.BuildBackendEnabled()
	for _, restore := range back {
		restore()
	}
}
