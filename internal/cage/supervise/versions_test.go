package supervise

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"
)

func TestComponents(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		t.Fatal("this test knows nothing of its build")
	}
	dir := t.TempDir()
	if err := os.Symlink(self, filepath.Join(dir, "runc")); err != nil {
		t.Fatal(err)
	}
	v := map[string]string{"cli": "1"}
	components(dir, v)
	if got, ok := v["runc"]; !ok || got != info.Main.Version {
		t.Errorf("runc is %q, %v, want %q", got, ok, info.Main.Version)
	}
	if len(v) != 2 {
		t.Errorf("versions %v, want none of what is not there", v)
	}
}
