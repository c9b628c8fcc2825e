package cli

import (
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/report"
)

// A step waits at the terminal for its answer; what is to be allowed for good
// is in the policy then, and the next build does not ask.
func TestAskWithEngine(t *testing.T) {
	r := newRig(t)
	hear := `RUN ["/probe", "hear", "collector.example.com:2222"]` + "\n"
	policy := filepath.Join(r.dir, "buildcage.yaml")
	for _, tc := range []struct {
		name, key string
		code      int
		written   bool
		questions bool
		flagged   bool
	}{
		{"deny", "d\n", 3, false, true, true},
		{"allow", "a\n", 0, false, true, true},
		{"allow and write", "w\n", 0, true, true, true},
		{"allowed by then", "", 0, true, false, false},
	} {
		out := filepath.Join(t.TempDir(), "report.json")
		cmd := r.command(t, hear, "build", "--no-cache", "--load=false", "--ask", "--cage-resolver", "127.0.0.1:9", "--report", "json="+out)
		cmd.Env = append(cmd.Env, "CI=", "BUILDKIT_PROGRESS=", "TERM=xterm")
		question := "[cage] allow collector.example.com:2222?"
		code, screen := r.onTerminal(t, cmd, 100, func(soFar string, keys io.Writer) {
			if strings.Contains(soFar, question) && tc.key != "" {
				_, _ = io.WriteString(keys, tc.key) // until it counts
			}
		})
		if code != tc.code || strings.Contains(screen, question) != tc.questions {
			t.Fatalf("%s: exit %d, want %d\n%q", tc.name, code, tc.code, screen)
		}
		var rep report.Report
		if err := json.Unmarshal([]byte(read(t, out)), &rep); err != nil {
			t.Fatal(err)
		}
		d := rep.Destinations[0]
		if flagged := len(d.Flags) == 1 && d.Flags[0] == flagAsked; len(rep.Destinations) != 1 || flagged != tc.flagged {
			t.Errorf("%s: destinations %+v", tc.name, rep.Destinations)
		}
		if text := read(t, policy); strings.Contains(text, "allowed_tcp_rules:\n  - collector.example.com:2222\n") != tc.written {
			t.Errorf("%s: the policy is\n%s", tc.name, text)
		}
	}
}
