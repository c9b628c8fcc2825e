package git

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/contract"
)

// What only a shell could run is refused.
func TestNoShell(t *testing.T) {
	for _, args := range [][]string{
		nil,
		{"-c"},
		{"-c", "id"},
		{"-c", "id", "id"},
		{"-c", `ssh -o ProxyCommand=id "$@"; id`, "ssh -o ProxyCommand=id", "h", "c"},
		{"-c", `ssh $(id) "$@"`, "ssh $(id)", "h", "c"},
		{"-c", `ssh -F /dev/null "$@"`, "something else", "h", "c"},
		{"-c", `sh -c id "$@"`, "sh -c id", "h"},
		{"-c", "git-upload-pack '/x'; id", "git-upload-pack '/x'; id"},
		{"-c", "git-upload-pack '/x", "git-upload-pack '/x"},
		{"-c", "git-upload-pack '--exec=id'", "git-upload-pack '--exec=id'"},
		{"-c", "git-receive-pack '/x'", "git-receive-pack '/x'"},
	} {
		p, _, errs := program(t, "")
		if code := p.Run(context.Background(), contract.CommandGitRun, args); code != exitNoShell || !strings.Contains(errs.String(), "no shell in the cage") {
			t.Errorf("%q: exit code %d, says %q", args, code, errs)
		}
	}
}

// A repository in the file system is read over its own end of the protocol.
func TestLocalRepository(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p, _, errs := program(t, "")
	if err := p.git(context.Background(), nil, "init", "--quiet", "--bare", dir); err != nil {
		t.Fatal(err, errs)
	}
	p, out, errs := program(t, "0000")
	line := "git-upload-pack '" + strings.ReplaceAll(dir, "'", `'\''`) + "'"
	if code := p.Run(context.Background(), contract.CommandGitRun, []string{"-c", line, line}); code != 0 || out.String() != "0000" {
		t.Errorf("exit code %d, says %q %q", code, out, errs)
	}
}

func TestParseSSH(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want sshCall
	}{
		"BuildKit's": {
			strings.Split("-F /dev/null -o UserKnownHostsFile=/tmp/k -o SendEnv=GIT_PROTOCOL git@git.example.com git-upload-pack", " "),
			sshCall{user: "git", host: "git.example.com", port: "22", command: "git-upload-pack", knownHosts: "/tmp/k", protocol: true},
		},
		"any host, port": {
			strings.Split("-F /dev/null -o StrictHostKeyChecking=no -4 -p 2222 a@b@git.example.com c", " "),
			sshCall{user: "a@b", host: "git.example.com", port: "2222", command: "c", anyHost: true},
		},
	} {
		got, err := parseSSH(c.args)
		if d := cmp.Diff(c.want, got, cmp.AllowUnexported(sshCall{})); d != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, d)
		}
	}
	for _, line := range []string{
		"", "h", "h c more", "-p", "-F /etc/ssh_config h c", "-o ProxyCommand=id h c", "-o StrictHostKeyChecking=yes h c", "-oX h c", "-L 1:2:3 h c",
	} {
		if got, err := parseSSH(strings.Fields(line)); err == nil {
			t.Errorf("%q: no error, but %+v", line, got)
		}
	}
}
