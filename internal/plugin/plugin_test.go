package plugin

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCalled(t *testing.T) {
	for name, want := range map[string]bool{"docker-cage": true, "/x/docker-cage": true, "docker-cage.exe": true, "buildcage": false, "/docker-cage/x": false} {
		if Called(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}

func TestParse(t *testing.T) {
	for line, want := range map[string]Call{
		"docker-cli-plugin-metadata":    {Metadata: true},
		"cage build .":                  {Args: []string{"build", "."}},
		"cage":                          {},
		"cage cage":                     {Args: []string{"cage"}},
		"--context x cage build -c 1 .": {Args: []string{"build", "-c", "1", "."}, Env: map[string]string{"DOCKER_CONTEXT": "x", "DOCKER_HOST": ""}},
		"-c=x cage ls":                  {Args: []string{"ls"}, Env: map[string]string{"DOCKER_CONTEXT": "x", "DOCKER_HOST": ""}},
		"-Hunix:///s -D --config /d -l debug cage ls": {Args: []string{"ls"}, Env: map[string]string{"DOCKER_HOST": "unix:///s", "DOCKER_CONTEXT": "", "DOCKER_CONFIG": "/d"}},
		"--host tcp://h:1 cage":                       {Env: map[string]string{"DOCKER_HOST": "tcp://h:1", "DOCKER_CONTEXT": ""}},
		"__complete cage bui":                         {Args: []string{"__complete", "bui"}},
		"--help cage":                                 {Args: []string{"--help"}},
		"build .":                                     {Args: []string{"build", "."}},
	} {
		got, err := Parse(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if want.Env == nil {
			want.Env = map[string]string{}
		}
		if diff := cmp.Diff(want, *got, cmp.Transformer("nil", func(s []string) []string { return append([]string{}, s...) })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", line, diff)
		}
	}
	for _, line := range []string{"--tlscacert x cage", "--tls cage", "--wat x cage", "--context"} {
		var e *Error
		if _, err := Parse(strings.Fields(line)); !errors.As(err, &e) || e.Hint() == "" {
			t.Errorf("%s: %v, want an error with a hint", line, err)
		}
	}
}

func TestAlias(t *testing.T) {
	i := &Installation{Dir: "d"}
	for name, tc := range map[string]struct {
		in      string
		set     bool
		force   bool
		want    string
		changed bool
		fails   bool
	}{
		"no file":          {"", true, false, "{\n\t\"aliases\": {\n\t\t\"builder\": \"cage\"\n\t}\n}\n", true, false},
		"kept":             {`{"x": {"y": [1.50, "<&>"]}, "aliases": {"other": 1}}`, true, false, "{\n\t\"aliases\": {\n\t\t\"builder\": \"cage\",\n\t\t\"other\": 1\n\t},\n\t\"x\": {\n\t\t\"y\": [\n\t\t\t1.50,\n\t\t\t\"<&>\"\n\t\t]\n\t}\n}\n", true, false},
		"set already":      {`{"aliases": {"builder": "cage"}}`, true, false, `{"aliases": {"builder": "cage"}}`, false, false},
		"something else":   {`{"aliases": {"builder": "buildx"}}`, true, false, "", false, true},
		"by force":         {`{"aliases": {"builder": "buildx"}}`, true, true, "{\n\t\"aliases\": {\n\t\t\"builder\": \"cage\"\n\t}\n}\n", true, false},
		"removed":          {`{"aliases": {"builder": "cage"}, "x": null}`, false, false, "{\n\t\"x\": null\n}\n", true, false},
		"another stays":    {`{"aliases": {"builder": "buildx"}}`, false, true, `{"aliases": {"builder": "buildx"}}`, false, false},
		"nothing to do":    {``, false, false, ``, false, false},
		"broken":           {`{`, true, true, "", false, true},
		"no object":        {`[]`, true, true, "", false, true},
		"aliases a string": {`{"aliases": "x"}`, true, true, "", false, true},
		"builder a number": {`{"aliases": {"builder": 1}}`, true, true, "", false, true},
	} {
		t.Run(name, func(t *testing.T) {
			i.Force = tc.force
			out, changed, err := i.Alias([]byte(tc.in), tc.set)
			if (err != nil) != tc.fails || changed != tc.changed || string(out) != tc.want {
				t.Errorf("%q, %v, %v", out, changed, err)
			}
		})
	}
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	if err := os.WriteFile(program, []byte("x"), 0o755); err != nil {
		t.Fatal(err)
	}
	i := &Installation{Dir: filepath.Join(dir, "docker"), Program: program}
	for range 2 { // a link is replaced
		if err := i.Install(); err != nil {
			t.Fatal(err)
		}
	}
	if to, err := os.Readlink(i.Path()); err != nil || to != program {
		t.Errorf("%q, %v", to, err)
	}
	i.Copy = true
	if err := i.Install(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Lstat(i.Path()); err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
		t.Errorf("%v, %v", info, err)
	}
	if err := i.Install(); err == nil {
		t.Error("a file that is no link is replaced without --force")
	}
	i.Force = true
	if err := i.Install(); err != nil {
		t.Error(err)
	}
	if removed, err := i.Uninstall(); !removed || err != nil {
		t.Errorf("%v, %v", removed, err)
	}
	if removed, err := i.Uninstall(); removed || err != nil {
		t.Errorf("%v, %v", removed, err)
	}
	if left, _ := os.ReadDir(filepath.Dir(i.Path())); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}
