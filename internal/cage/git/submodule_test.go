package git

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/contract"
)

// Where a repository's submodules are is up to the repository: neither a
// command nor anything in the file system of the cage.
func TestHostileSubmodules(t *testing.T) {
	for name, tc := range map[string]struct{ url, want string }{
		"command":       {`ext::touch TARGET`, "transport 'ext' not allowed"},
		"file url":      {"file://SECRET", "transport 'file' not allowed"},
		"path":          {"SECRET", "transport 'file' not allowed"},
		"option":        {"--upload-pack=TARGET", ""},
		"host option":   {"ssh://-oProxyCommand=TARGET/x", ""},
		"helper":        {"https::--file=TARGET", ""},
		"other helper":  {"fd::0", "not allowed"},
		"update option": {"https://127.0.0.1:1/x\n\tupdate = !touch TARGET", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, errs := program(t, "")
			dir, target, secret := t.TempDir(), filepath.Join(t.TempDir(), "target"), t.TempDir()
			run := func(args ...string) {
				t.Helper()
				cmd := exec.Command(p.Git, args...)
				cmd.Dir = dir
				if out, err := cmd.CombinedOutput(); err != nil {
					t.Fatalf("git %v: %v\n%s", args, err, out)
				}
			}
			url := strings.NewReplacer("TARGET", target, "SECRET", secret).Replace(tc.url)
			run("init", "-q", "--bare", secret)
			run("init", "-q")
			if err := os.WriteFile(filepath.Join(dir, ".gitmodules"), []byte("[submodule \"s\"]\n\tpath = s\n\turl = "+url+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			run("update-index", "--add", "--cacheinfo", "160000,"+strings.Repeat("1", 40)+",s")
			run("add", ".gitmodules")
			t.Chdir(dir)
			if code := p.Run(t.Context(), contract.CommandGitSubmodule, []string{"update", "--init", "--recursive", "--depth=1"}); code == 0 {
				t.Error("it is there")
			}
			if !strings.Contains(errs.String(), tc.want) {
				t.Errorf("said %q, want %q", errs, tc.want)
			}
			if _, err := os.Stat(target); err == nil {
				t.Error("the repository has run a command")
			}
		})
	}
}
