package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Repositories as context and in ADD, over HTTPS and SSH: what is there
// arrives, the builder's record says how much came from where.
func TestBuilderFetchesRepositories(t *testing.T) {
	o := startOrigin(t, "https", "branch", "tag", "dir", "v0", "moved", "token", "ssh", "context")
	const policy = "{allowed_https_rules: [git.example.com, other.example.com], allowed_tcp_rules: [git.example.com:22]}"
	all := map[string]string{"main.txt": "main\n", "lib/lib.txt": "library\n", "sub/sub.txt": "sub\n"}
	for name, c := range map[string]struct {
		add, context string
		args         []string
		want         map[string]string
	}{
		"https":   {add: "https://git.example.com/main-https.git", want: all},
		"branch":  {add: "https://git.example.com/main-branch.git#main", want: all},
		"tag":     {add: "https://git.example.com/main-tag.git#v1:sub", want: map[string]string{"sub.txt": "sub\n"}},
		"dir":     {add: "--keep-git-dir=true https://git.example.com/main-dir.git#main", want: all},
		"v0":      {add: "https://git.example.com/old/main-v0.git#main", want: all},
		"moved":   {add: "https://git.example.com/moved/lib-moved.git", want: map[string]string{"lib.txt": "library\n"}},
		"token":   {add: "https://git.example.com/private-token.git", args: []string{"--secret", "id=GIT_AUTH_TOKEN,env=TOKEN"}, want: map[string]string{"private.txt": "private\n"}},
		"ssh":     {add: "git@git.example.com:main-ssh.git", args: []string{"--ssh", "default=" + o.agent}, want: all},
		"context": {context: "https://git.example.com/main-context.git#main:sub", want: map[string]string{"sub.txt": "sub\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("TOKEN", o.token)
			out := t.TempDir()
			dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nADD " + c.add + " /\n", "buildcage.yaml": o.policy(policy)})
			from := "."
			if c.context != "" {
				from = c.context
			}
			args := append(append([]string{"build", "--no-cache", "--output", out}, o.args(c.args...)...), from)
			r := run(t, dir, args...).want(t, 0)
			for file, text := range c.want {
				if data, err := os.ReadFile(filepath.Join(out, file)); err != nil || string(data) != text {
					t.Errorf("%s: %q, %v", file, data, err)
				}
			}
			moved := int64(0)
			for _, s := range r.report.Sources {
				if strings.Contains(s.Ref, "git.example.com") {
					moved += s.Down
				}
			}
			if moved == 0 {
				t.Errorf("no source of the report has bytes: %+v\n%s", r.report.Sources, tail(r.stderr))
			}
		})
	}
}

// What is not listed is refused, and nothing takes another way.
func TestUnlistedRepositoryIsRefused(t *testing.T) {
	o := startOrigin(t, "https", "ssh", "submodule", "moved")
	for name, c := range map[string]struct{ add, policy, want string }{
		"https":     {"https://git.example.com/main-https.git", "{allowed_https_rules: [other.example.com]}", "refused tls git.example.com:443 (not-allowed)"},
		"ssh":       {"git@git.example.com:main-ssh.git", "{allowed_https_rules: [git.example.com]}", "refused git.example.com:22 (protocol-unclassified)"},
		"submodule": {"https://other.example.com/main-submodule.git", "{allowed_https_rules: [other.example.com]}", "refused tls git.example.com:443 (not-allowed)"},
		"moved":     {"https://git.example.com/moved/lib-moved.git", "{allowed_https_rules: [git.example.com]}", "refused tls other.example.com:443 (not-allowed)"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, map[string]string{"Dockerfile": "FROM scratch\nADD " + c.add + " /\n", "buildcage.yaml": o.policy(c.policy)})
			r := run(t, dir, append(append([]string{"build", "--no-cache", "--output", t.TempDir()}, o.args("--ssh", "default="+o.agent)...), ".")...).want(t, 1)
			if !strings.Contains(r.stderr, c.want) {
				t.Errorf("nobody says %q\n%s", c.want, tail(r.stderr))
			}
		})
	}
}
