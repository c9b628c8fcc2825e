package supervise

import (
	"bufio"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/buildcage/buildcage/internal/cage/lab"
)

// PID 1 inherits the orphans of its children. It must collect them and leave
// the children to whoever waits for them.
func TestReaper(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	if os.Getpid() != 1 {
		t.Fatalf("process id %d, want 1", os.Getpid())
	}
	var cs children
	cs.reap(t.Context())
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	for range 50 {
		c, err := cs.start(log, "child", []string{"/bin/sh", "-c", "for i in 1 2 3; do (exit 0) & done; (sleep 0.02) & exit 3"}, os.Environ())
		if err != nil {
			t.Fatal(err)
		}
		<-c.done
		if c.status.ExitStatus() != 3 {
			t.Fatalf("status %v, want exit code 3", c.status)
		}
	}
	deadline, look := time.After(20*time.Second), time.NewTicker(5*time.Millisecond)
	defer look.Stop()
	for left := others(t); len(left) > 0; left = others(t) {
		select {
		case <-look.C: // nothing tells when an orphan is collected
		case <-deadline:
			t.Fatalf("left over: %q", left)
		}
	}
}

// others are all processes but this one.
func others(t *testing.T) []string {
	t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var left []string
	for _, file := range stats {
		f, err := os.Open(file)
		if err != nil {
			continue
		}
		line, _ := bufio.NewReader(f).ReadString('\n')
		f.Close()
		if line != "" && !strings.HasPrefix(line, "1 ") {
			left = append(left, line)
		}
	}
	return left
}
