package cgroup

import (
	"os"
	"path/filepath"
	"testing"
)

// The kernel's files behave differently from plain ones; this only pins what
// is written where.
func TestDelegate(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{"cgroup.procs": "1\n17\n", "cgroup.controllers": "cpu memory\n"} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := Delegate(root); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"init/cgroup.procs": "17", "cgroup.subtree_control": "+memory"} {
		if b, err := os.ReadFile(filepath.Join(root, name)); err != nil || string(b) != want {
			t.Errorf("%s: %q, %v, want %q", name, b, err, want)
		}
	}
	if v2, err := Unified(root); v2 || err != nil {
		t.Errorf("a plain directory is unified: %v, %v", v2, err)
	}
}
