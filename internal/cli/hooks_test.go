package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// hook is one of .pre-commit-hooks.yaml.
type hook struct {
	ID            string   `yaml:"id"`
	Name          string   `yaml:"name"`
	Description   string   `yaml:"description"`
	Entry         string   `yaml:"entry"`
	Language      string   `yaml:"language"`
	Files         string   `yaml:"files"`
	PassFilenames *bool    `yaml:"pass_filenames"`
	Types         []string `yaml:"types"`
}

// run does what pre-commit does: the entry, with the files that match, in the
// repository. A hook fails by its exit code, and by changing a file.
func (h *hook) run(t *testing.T, dir string, files ...string) (failed bool, out string) {
	t.Helper()
	words := strings.Fields(h.Entry)
	if words[0] != "buildcage" || h.Language != "system" {
		t.Fatalf("%s does not run the program that is installed: %s", h.ID, h.Entry)
	}
	args := words[1:]
	match := regexp.MustCompile(h.Files)
	touched := false
	for _, name := range files {
		if !match.MatchString(name) {
			continue
		}
		touched = true
		if h.PassFilenames == nil || *h.PassFilenames {
			args = append(args, name)
		}
	}
	if !touched {
		return false, "skipped"
	}
	before := snapshot(t, dir, files)
	cmd := exec.Command(os.Args[0], args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), asProgram+"=1")
	text, err := cmd.CombinedOutput()
	return err != nil || snapshot(t, dir, files) != before, string(text)
}

func snapshot(t *testing.T, dir string, files []string) string {
	t.Helper()
	var all strings.Builder
	for _, name := range files {
		all.WriteString(read(t, filepath.Join(dir, name)) + "\x00")
	}
	return all.String()
}

// TestHooks drives the published hooks by pre-commit's protocol.
func TestHooks(t *testing.T) {
	data, err := os.ReadFile("../../.pre-commit-hooks.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var list []hook
	if err := yaml.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	hooks := map[string]*hook{}
	for i, h := range list {
		hooks[h.ID] = &list[i]
		if h.Name == "" || h.Description == "" {
			t.Errorf("%s says too little of itself", h.ID)
		}
	}
	for _, tc := range []struct {
		hook, policy, dockerfile, changed string
		failed                            bool
	}{
		{"buildcage-check", "version: 1\nallowed_https_rules: [pypi.org]\n", "FROM scratch\n", "Dockerfile", false},
		{"buildcage-check", "version: 1\nallowed_https_rules: ['*.com']\n", "FROM scratch\n", "buildcage.yaml", true},
		{"buildcage-check", "version: 1\n", "FROM a\nRUN --network=host x\n", "app.dockerfile", true},
		{"buildcage-check", "version: 1\nbroken\n", "FROM scratch\n", "README.md", false}, // not touched, not run
		{"buildcage-fmt", "version: 1\nmode: restrict\n", "", "buildcage.yaml", false},
		{"buildcage-fmt", "mode: restrict\nversion: 1\n", "", "buildcage.yaml", true},
		{"buildcage-fmt", "mode: restrict\nversion: 1\n", "", "Dockerfile", false},
	} {
		dir := t.TempDir()
		for name, text := range map[string]string{"buildcage.yaml": tc.policy, "Dockerfile": tc.dockerfile} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if failed, out := hooks[tc.hook].run(t, dir, tc.changed); failed != tc.failed {
			t.Errorf("%s of %q with %s changed: failed %v, want %v\n%s", tc.hook, tc.policy, tc.changed, failed, tc.failed, out)
		}
	}
}
