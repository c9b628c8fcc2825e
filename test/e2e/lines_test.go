package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/event"
)

// Rules by line hold for the step of that line and for no other. Where nobody
// knows the lines, they are refused.
func TestRulesByLine(t *testing.T) {
	o := startOrigin(t)
	const host = "pages.example.com"
	dir := project(t, map[string]string{
		"Dockerfile": fmt.Sprintf(`FROM buildcage-demo:base AS one
RUN : first; %[1]s
FROM buildcage-demo:base AS two
RUN : second; %[1]s
FROM scratch
COPY --from=one /etc/os-release /one
COPY --from=two /etc/os-release /two
`, fetch(host)),
		"buildcage.yaml": "version: 1\nallow_private: [" + o.address + "/32]\nsteps:\n  - lines: 4-5\n    allowed_http_rules: [" + host + "]\n",
	})
	r, records := recorded(t, dir, append([]string{"build", "--no-cache"}, o.args()...)...)
	r.want(t, 3)
	stage, got := make(map[string]string), make(map[string]event.Verdict)
	for _, rec := range records {
		if rec.Step != nil && rec.Step.Stage != "" {
			stage[rec.Step.ID] = rec.Step.Stage
		}
	}
	for _, rec := range records {
		if rec.Conn != nil && rec.Conn.Name == host {
			got[stage[rec.Conn.Step]] = rec.Conn.Verdict
		}
	}
	if got["one"] != event.Blocked || got["two"] != event.Allowed || len(got) != 2 {
		t.Errorf("verdicts by stage: %v\n%s", got, tail(r.stderr))
	}
	for _, args := range [][]string{
		{"build", "--config", "buildcage.yaml", "https://git.example.com/x.git"},
		{"up", "--config", filepath.Join(dir, "buildcage.yaml")},
	} {
		if r := run(t, dir, args...).want(t, 2); !strings.Contains(r.stderr, "selects steps by lines") {
			t.Errorf("%v: %s", args, r.stderr)
		}
	}
}
