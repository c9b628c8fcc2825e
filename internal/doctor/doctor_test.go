package doctor

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/docker"
)

func healthy() *Facts {
	yes, room := true, uint64(50<<30)
	return &Facts{
		Host: "unix:///var/run/docker.sock", Local: true, Engine: docker.Facts{Version: "28.0", APIVersion: "1.48", Arch: "amd64"},
		OS: "Linux", Kernel: "6.1.0-13-amd64", Cgroup: "2", Root: "/var/lib/docker", Free: &room,
		NFTables: &yes, IPv6: &yes, ImageArch: "amd64", Cage: Trial{Tried: true},
	}
}

func TestDiagnose(t *testing.T) {
	no := false
	size := func(n uint64) func(*Facts) { return func(f *Facts) { f.Free = &n } }
	for name, tc := range map[string]struct {
		change func(*Facts)
		want   map[string]Status
	}{
		"healthy":           {func(*Facts) {}, nil},
		"no engine":         {func(f *Facts) { f.EngineErr = errors.New("gone") }, map[string]Status{"engine": Problem, "exposed API": Unknown}},
		"no image":          {func(f *Facts) { f.ImageErr = errors.New("none") }, map[string]Status{"image": Problem}},
		"another arch":      {func(f *Facts) { f.Engine.Arch = "arm64" }, map[string]Status{"image": Problem}},
		"old kernel":        {func(f *Facts) { f.Kernel = "4.19.0" }, map[string]Status{"kernel": Warning}},
		"unknown kernel":    {func(f *Facts) { f.Kernel = "" }, map[string]Status{"kernel": Unknown}},
		"cgroup 1":          {func(f *Facts) { f.Cgroup = "1" }, nil},
		"unknown cgroup":    {func(f *Facts) { f.Cgroup = "" }, map[string]Status{"cgroup": Unknown}},
		"quick":             {func(f *Facts) { f.Cage = Trial{} }, map[string]Status{"cage": Unknown}},
		"quick, no module":  {func(f *Facts) { f.Cage = Trial{}; f.NFTables = &no }, map[string]Status{"cage": Unknown, "nftables": Warning}},
		"a cage that fails": {func(f *Facts) { f.Cage.Err = errors.New("x") }, map[string]Status{"cage": Problem}},
		"elsewhere":         {func(f *Facts) { f.Free, f.IPv6 = nil, nil }, map[string]Status{"disk": Unknown, "ipv6": Unknown}},
		"no IPv6":           {func(f *Facts) { f.IPv6 = &no }, nil},
		"little space":      {size(2 << 30), map[string]Status{"disk": Warning}},
		"no space":          {size(1 << 29), map[string]Status{"disk": Problem}},
		"engine's warning": {func(f *Facts) {
			f.Warnings = []string{"WARNING: API is accessible on http://0.0.0.0:2375 without encryption."}
		}, map[string]Status{"exposed API": Problem}},
		"other warnings":   {func(f *Facts) { f.Warnings = []string{"WARNING: No swap limit support"} }, nil},
		"plain port":       {func(f *Facts) { f.Plain = []string{"0.0.0.0:2375"} }, map[string]Status{"exposed API": Problem}},
		"plain client":     {func(f *Facts) { f.Host = "tcp://build.example.com:2375" }, map[string]Status{"exposed API": Problem}},
		"plain loopback":   {func(f *Facts) { f.Host = "tcp://127.0.0.1:2375" }, map[string]Status{"exposed API": Warning}},
		"TLS client":       {func(f *Facts) { f.Host, f.TLS = "tcp://build.example.com:2376", true }, nil},
		"a chosen builder": {func(f *Facts) { f.Builder = "x" }, map[string]Status{"docker config": Warning}},
		"a broken config":  {func(f *Facts) { f.ConfigErr = errors.New("not JSON") }, map[string]Status{"docker config": Warning}},
	} {
		t.Run(name, func(t *testing.T) {
			facts := healthy()
			tc.change(facts)
			got := map[string]Status{}
			found := Diagnose(facts)
			problem := false
			for _, f := range found {
				problem = problem || f.Status == Problem
				if f.Status != OK {
					got[f.Name] = f.Status
				}
				if (f.Status != OK) != (f.Fix != "") || f.Message == "" {
					t.Errorf("not a finding with a fix: %+v", f)
				}
			}
			want := tc.want
			if want == nil {
				want = map[string]Status{}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if Failed(found) != problem {
				t.Errorf("failed: %v", Failed(found))
			}
		})
	}
}

const tcpTable = `  sl  local_address rem_address   st tx_queue
   0: 0100007F:0947 00000000:0000 0A 00000000
   1: 00000000:0947 00000000:0000 0A 00000000
   2: 00000000:0948 00000000:0000 0A 00000000
   3: 0200007F:0947 00000000:0000 01 00000000
`

func TestLook(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"proc/version": "Linux", "proc/net/tcp": tcpTable, "proc/net/if_inet6": "",
		"proc/net/tcp6":                 "  sl\n   0: 00000000000000000000000001000000:0947 0:0 0A 0\n",
		"proc/sys/kernel/osrelease":     "6.1.0\n",
		"lib/modules/6.1.0/modules.dep": "kernel/net/netfilter/nf_tables.ko: x\n", "lib/modules/6.1.0/modules.builtin": "",
	} {
		path := filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	f := &Facts{Root: "/"}
	f.look(root)
	if diff := cmp.Diff([]string{"127.0.0.1:2375", "0.0.0.0:2375", "[::1]:2375"}, f.Plain); diff != "" {
		t.Error(diff)
	}
	if f.IPv6 == nil || *f.IPv6 || f.NFTables == nil || !*f.NFTables || f.Free == nil {
		t.Errorf("%+v", f)
	}
	if err := os.WriteFile(filepath.Join(root, "lib/modules/6.1.0/modules.dep"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if has := hasNFTables(root); has == nil || *has {
		t.Error("a kernel without the module has it")
	}
	elsewhere := &Facts{Root: "/"}
	elsewhere.look(t.TempDir())
	if elsewhere.IPv6 != nil || elsewhere.Free != nil || elsewhere.NFTables != nil {
		t.Errorf("a machine that is no Linux says %+v", elsewhere)
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	for text, ok := range map[string]bool{"": true, "{}": true, "{": false} {
		if text != "" {
			if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := checkConfig(); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
		_ = os.Remove(filepath.Join(dir, "config.json"))
	}
}
