package cage_test

import (
	"os/exec"
	"strings"
	"testing"
)

// caged is the part of the product that hostile traffic reaches and the part
// that every step starts a copy of: it must stay small and quick to start.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "github.com/buildcage/buildcage/cmd/caged").Output()
	if err != nil {
		t.Fatalf("listing dependencies: %v", err)
	}
	reasons := map[string]string{
		"github.com/spf13/cobra":           "the command line belongs to the host",
		"github.com/charmbracelet/":        "nothing in the cage writes to a terminal",
		"yaml":                             "the cage is configured with JSON by the host, which validated it",
		"github.com/docker/buildx":         "builds are driven from the host",
		"github.com/docker/cli":            "builds are driven from the host",
		"github.com/docker/docker":         "the cage has no way to the engine and must not look for one",
		"github.com/moby/moby":             "the cage has no way to the engine and must not look for one",
		"github.com/moby/buildkit/client":  "the client brings the whole of containerd; the API alone is small",
		"github.com/containerd/containerd": "images are buildkitd's business",
		"buildcage/internal/cli":           "host packages and the cage meet in policy, event and contract only",
		"buildcage/internal/config":        "host packages and the cage meet in policy, event and contract only",
		"buildcage/internal/runner":        "host packages and the cage meet in policy, event and contract only",
		"buildcage/internal/report":        "host packages and the cage meet in policy, event and contract only",
		"buildcage/internal/cage/lab":      "the lab is for tests",
	}
	deps := strings.Fields(string(out))
	if len(deps) < 100 {
		t.Fatalf("only %d dependencies listed", len(deps))
	}
	for _, dep := range deps {
		for unwanted, reason := range reasons {
			if strings.Contains(dep, unwanted) {
				t.Errorf("caged links %s: %s", dep, reason)
			}
		}
	}
}
