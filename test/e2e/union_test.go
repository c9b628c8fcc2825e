package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fetching is a build whose one step gets a file from $HOST.example.com.
const fetching = `FROM buildcage-demo:base
SHELL ["/bin/bash", "-c"]
ARG HOST
RUN exec 3<>/dev/tcp/$HOST.example.com/80 && printf 'GET /file HTTP/1.1\r\nHost: %s.example.com\r\nConnection: close\r\n\r\n' $HOST >&3 && cat <&3 >/dev/null
`

// TestTwoAudits: two audits that saw different hosts make one policy of both,
// whichever came first, and of nothing else; what stood in the file stays.
func TestTwoAudits(t *testing.T) {
	o := startOrigin(t)
	const mine = "# mine\nversion: 1\nallowed_https_rules:\n  - pypi.org # read on Monday\n"
	dir := project(t, map[string]string{"Dockerfile": fetching})
	with := func(command, host string, args ...string) result {
		t.Helper()
		all := append([]string{command}, o.args("--build-arg", "HOST="+host, "--output", "type=cacheonly")...)
		return run(t, dir, append(append(all, args...), ".")...)
	}
	var files []string
	for _, order := range [][]string{{"one", "two"}, {"two", "one"}} {
		file := filepath.Join(dir, "buildcage.yaml")
		if err := os.WriteFile(file, []byte(mine), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, host := range order {
			with("audit", host, "--write", "buildcage.yaml").want(t, 0)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, string(text))
	}
	want := mine + "allowed_http_rules:\n  - one.example.com:80\n  - two.example.com:80\nallow_private:\n  - \"" + o.address + "\"\n"
	for _, got := range files {
		if diff := cmp.Diff(rules(want), rules(got)); diff != "" || !strings.HasPrefix(got, mine) {
			t.Errorf("not the union (-want +got):\n%s\n%s", diff, got)
		}
	}
	for host, code := range map[string]int{"one": 0, "two": 0, "three": 3} {
		r := with("build", host, "--no-cache")
		if r.code != code {
			t.Errorf("%s: exit %d, want %d\n%s", host, r.code, code, tail(r.stderr))
		}
		if refused := r.report.hosts("blocked")[host+".example.com:80"]; refused != (code != 0) {
			t.Errorf("%s: refused %v: %+v", host, refused, r.report.Destinations)
		}
	}
}

// rules are the lines of a policy without its comments.
func rules(text string) []string { return strings.Split(withoutComments(text), "\n") }
