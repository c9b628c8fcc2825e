//go:build unix

package cli

import (
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestTargetPipe(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skip("no pipes here:", err)
	}
	tg, err := openTarget(path, "--report")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() {
		dt, _ := os.ReadFile(path)
		got <- string(dt)
	}()
	if err := tg.save(func(w io.Writer) error { _, err := io.WriteString(w, "through"); return err }); err != nil {
		t.Fatal(err)
	}
	if s := <-got; s != "through" {
		t.Errorf("read %q", s)
	}
}
