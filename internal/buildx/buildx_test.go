package buildx

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/buildx/store"
	"github.com/docker/buildx/util/confutil"
	"github.com/docker/cli/cli/command"
	"github.com/google/go-cmp/cmp"
)

// parsed is a command that has seen args.
func parsed(t *testing.T, args ...string) *Command {
	t.Helper()
	cli, err := command.NewDockerCli()
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(cli)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Flags().Parse(args); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct{ args, want string }{
		{"", ""},
		{"--allow network.host", "--allow network.host would let steps leave the cage"},
		{"--allow=security.insecure", "--allow security.insecure would let steps change the cage"},
		{"--allow security.insecure=true", "--allow security.insecure would let steps change the cage"},
		{"--allow device", `--allow "device" is not available in a cage`},
		{"--allow device=nvidia.com/gpu=all", `--allow "device=nvidia.com/gpu=all" is not available in a cage`},
		{"--allow something.new", `--allow "something.new" is not available in a cage`},
		{"--allow buildx.local.delete", ""},
		{"--allow buildx.local.delete --allow network.host", "--allow network.host would let steps leave the cage"},
		{"--network host", "--network host would let steps leave the cage"},
		{"--network none", ""},
		{"--network default", ""},
		{"--network container:x", `--network "container:x" is not available in a cage`},
		{"--progress fancy", `--progress "fancy" is not a known mode`},
		{"--progress rawjson", ""},
		{"-q", ""},
		{"-q --progress plain", "--quiet and --progress plain exclude each other"},
		{"--build-context x", "--build-context: invalid context value: x, expected key=value"},
		{"--platform not/a/plat/form", "--platform:"},
		{"--secret type=what", "--secret:"},
		{"--call a,b", "--call: invalid print value: a,b"},
		{"-o type=local,dest=out --secret id=a,src=b --ssh default --cache-to type=local,dest=c --platform linux/amd64,linux/arm64", ""},
	} {
		err := parsed(t, strings.Fields(tc.args)...).Check()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%q: unexpected %v", tc.args, err)
		case tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)):
			t.Errorf("%q: got %v, want %s", tc.args, err, tc.want)
		}
		var usage *UsageError
		if err != nil && (!errors.As(err, &usage) || usage.Hint() == "") {
			t.Errorf("%q: %v has no hint", tc.args, err)
		}
	}
}

func TestLoadByDefault(t *testing.T) {
	for _, tc := range []struct {
		args string
		want bool
	}{
		{"", true},
		{"-t x", true},
		{"-q", true},
		{"--platform linux/arm64", true},
		{"--platform linux/arm64,linux/amd64", false},
		{"--platform linux/arm64 --platform linux/amd64", false},
		{"--push -t x", false},
		{"--push=false", true},
		{"-o out", false},
		{"--output type=cacheonly", false},
		{"--output type=docker,dest=-", false},
		{"--load=false", false},
		{"--load", true},
		{"--load --push", false},
		{"--call check", false},
		{"--call build", true},
		{"--check", false},
		{"--check=false", true},
		{"--print outline", false},
	} {
		c := parsed(t, strings.Fields(tc.args)...)
		if err := c.LoadByDefault(); err != nil {
			t.Fatal(err)
		}
		if got := slices.Contains(c.List("output"), loadOutput); got != tc.want {
			t.Errorf("%q: load = %v, want %v", tc.args, got, tc.want)
		}
	}
}

func TestRefresh(t *testing.T) {
	for _, tc := range []struct {
		args string
		want bool
	}{
		{"", true},
		{"--no-cache=false", false},
		{"--no-cache", true},
		{"--no-cache-filter deps", false},
		{"--check", false},
	} {
		c := parsed(t, strings.Fields(tc.args)...)
		if err := c.Refresh(); err != nil {
			t.Fatal(err)
		}
		if got := c.On("no-cache"); got != tc.want {
			t.Errorf("%q: no-cache = %v, want %v", tc.args, got, tc.want)
		}
	}
}

func TestStreams(t *testing.T) {
	for _, tc := range []struct {
		args           string
		stdout, silent bool
	}{
		{"", false, false},
		{"-q", true, true},
		{"--progress quiet", false, true},
		{"--progress rawjson", false, true},
		{"-o -", true, false},
		{"-o type=tar", true, false},
		{"-o type=tar,dest=x", false, false},
		{"-o type=docker", false, false},
		{"-o type=docker,dest=-", true, false},
		{"-o type=oci,dest=x.tar", false, false},
		{"--check", true, false},
	} {
		c := parsed(t, strings.Fields(tc.args)...)
		if got := c.Stdout(); got != tc.stdout {
			t.Errorf("%q: stdout = %v, want %v", tc.args, got, tc.stdout)
		}
		if got := c.Silent(); got != tc.silent {
			t.Errorf("%q: silent = %v, want %v", tc.args, got, tc.silent)
		}
	}
}

func TestRegister(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "buildx")
	if err := register(dir, "unix:///run/x.sock", nil); err != nil {
		t.Fatal(err)
	}
	st, err := store.New(confutil.NewConfig(nil, confutil.WithDir(dir)))
	if err != nil {
		t.Fatal(err)
	}
	txn, release, err := st.Txn()
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	got, err := txn.NodeGroupByName(builderName)
	if err != nil {
		t.Fatal(err)
	}
	want := []store.Node{{Name: "buildcage0", Endpoint: "unix:///run/x.sock"}}
	if diff := cmp.Diff(want, got.Nodes); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
	first, err := os.ReadFile(filepath.Join(dir, ".buildNodeID"))
	if err != nil {
		t.Fatal(err)
	}
	if id := confutil.NewConfig(nil, confutil.WithDir(dir)).TryNodeIdentifier(); id != string(first) || len(id) != 16 {
		t.Errorf("node identity %q, want the %q that every run writes", id, first)
	}
}

func TestEnviron(t *testing.T) {
	t.Setenv("BUILDCAGE_TEST_A", "before")
	restore, err := environ(map[string]string{"BUILDCAGE_TEST_A": "during", "BUILDCAGE_TEST_B": "during"})
	if err != nil {
		t.Fatal(err)
	}
	if a, b := os.Getenv("BUILDCAGE_TEST_A"), os.Getenv("BUILDCAGE_TEST_B"); a != "during" || b != "during" {
		t.Errorf("during: %q %q", a, b)
	}
	restore()
	_, had := os.LookupEnv("BUILDCAGE_TEST_B")
	if a := os.Getenv("BUILDCAGE_TEST_A"); a != "before" || had {
		t.Errorf("after: %q, B set: %v", a, had)
	}
}

func TestNoDesktop(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	NoDesktop()
	if got := os.Getenv("HOME"); got != home {
		t.Errorf("HOME = %q, want it back as %q", got, home)
	}
}
