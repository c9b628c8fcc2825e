package e2e

import (
	"strings"
	"testing"
)

// Behind a company's proxy: what is allowed is asked for there by name, since
// nobody else can resolve it; what is not never gets that far; and NO_PROXY is
// dialled as always.
func TestUpstreamProxy(t *testing.T) {
	o := startOrigin(t)
	t.Setenv("HTTPS_PROXY", "http://corp:made-up@"+o.address+":3128")
	t.Setenv("NO_PROXY", "direct.example.com")
	dir := project(t, map[string]string{
		"Dockerfile":     "FROM scratch\nADD https://far.example.net/file /far\nADD https://direct.example.com/file /direct\n",
		"refused":        "FROM scratch\nADD https://other.example.net/file /other\n",
		"buildcage.yaml": o.policy("{allowed_https_rules: [far.example.net, direct.example.com]}"),
	})
	r := run(t, dir, append(append([]string{"build", "--no-cache", "--output", t.TempDir()}, o.args()...), ".")...).want(t, 0)
	moved := map[string]int64{}
	for _, s := range r.report.Sources {
		moved[s.Host] += s.Down
	}
	for _, host := range []string{"far.example.net", "direct.example.com"} {
		if moved[host] < 64<<10 {
			t.Errorf("%d bytes from %s: %+v", moved[host], host, r.report.Sources)
		}
	}
	r = run(t, dir, append(append([]string{"build", "--no-cache", "-f", "refused", "--output", t.TempDir()}, o.args()...), ".")...).want(t, 1)
	if want := "refused tls other.example.net:443 (not-allowed)"; !strings.Contains(r.stderr, want) {
		t.Errorf("nobody says %q\n%s", want, tail(r.stderr))
	}
	asked := docker(t, "logs", o.id)
	if !strings.Contains(asked, "proxy CONNECT far.example.net:443") || strings.Contains(asked, "other.example.net") || strings.Contains(asked, "direct.example.com") {
		t.Errorf("the proxy was asked:\n%s", asked)
	}
	if strings.Contains(r.stderr, "made-up") {
		t.Error("the password was printed")
	}
	// Another password: the build fails with what the proxy says.
	t.Setenv("HTTPS_PROXY", "http://corp:wrong@"+o.address+":3128")
	r = run(t, dir, append(append([]string{"build", "--no-cache", "--output", t.TempDir()}, o.args()...), ".")...).want(t, 1)
	for _, d := range r.report.Destinations {
		if d.Host == "far.example.net" && (d.Verdict != "failed" || len(d.Detail) == 0 || !strings.HasPrefix(d.Detail[0], "the upstream proxy answered 407")) {
			t.Errorf("%s: %s %v", d.Host, d.Verdict, d.Detail)
		}
	}
	if want := "failed: the upstream proxy"; !strings.Contains(r.stderr, want) {
		t.Errorf("nobody says %q\n%s", want, tail(r.stderr))
	}
}
