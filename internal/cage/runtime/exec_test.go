package runtime

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestConfineFurtherProcess(t *testing.T) {
	for name, c := range map[string]struct {
		caps []string
		want string // of the error
	}{
		"default": {[]string{"CAP_CHOWN", "CAP_NET_RAW"}, ""},
		"wider":   {[]string{"CAP_CHOWN", "CAP_NET_ADMIN"}, "CAP_NET_ADMIN"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "process.json")
			b, err := json.Marshal(specs.Process{
				Cwd: "/", Args: []string{"true"},
				Capabilities: &specs.LinuxCapabilities{Bounding: c.caps, Effective: c.caps, Permitted: c.caps, Ambient: c.caps},
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			err = confine(parse([]string{"--root", "r", "exec", "--process", file, "id"}).process)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want a refusal that names %s", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			after, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if s := string(after); strings.Contains(s, "NET_RAW") || strings.Count(s, "CAP_CHOWN") != 4 || !strings.Contains(s, `"cwd":"/"`) {
				t.Errorf("rewritten to %s", s)
			}
		})
	}
	if err := confine(""); err == nil {
		t.Error("a process without a file must not run")
	}
}
