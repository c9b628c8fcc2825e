package cli

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"
)

// onTerminal runs the program with all its streams on a terminal and returns
// what it wrote there. seen, when set, gets the output as it comes, and what
// types on the keyboard.
func (r *rig) onTerminal(t *testing.T, cmd *exec.Cmd, width uint16, seen func(soFar string, keys io.Writer)) (code int, output string) {
	t.Helper()
	master, path, err := console.NewPty()
	if err != nil {
		t.Fatal(err)
	}
	defer master.Close()
	if err := master.Resize(console.WinSize{Height: 40, Width: width}); err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(path, os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := master.Read(buf)
		out.Write(buf[:n])
		if seen != nil {
			seen(out.String(), master)
		}
		if err != nil { // nobody has the other side open any more
			break
		}
	}
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String()
}

// The line is on a terminal that buildx redraws, and nowhere else.
func TestLiveLineWithEngine(t *testing.T) {
	r := newRig(t)
	dial := strings.Repeat(`RUN ["/probe", "dial", "collector.example.com:443"]`+"\n", 2)
	for _, tc := range []struct {
		progress string
		env      string
		want     bool
	}{
		{"auto", "NO_COLOR=1", true},
		{"auto", "CI=true", false},
		{"plain", "A=b", false},
		{"rawjson", "A=b", false},
		{"quiet", "A=b", false},
	} {
		cmd := r.command(t, dial, "build", "--no-cache", "--load=false", "--progress", tc.progress)
		cmd.Env = append(cmd.Env, "CI=", "BUILDKIT_PROGRESS=", "TERM=xterm", tc.env)
		code, out := r.onTerminal(t, cmd, 100, nil)
		if got := strings.Contains(out, "[cage] 0 destinations, 1 refused, "); code != 3 || got != tc.want {
			t.Errorf("--progress %s with %s: exit %d, the line is there: %v, want %v\n%q", tc.progress, tc.env, code, got, tc.want, out)
		}
	}
}
