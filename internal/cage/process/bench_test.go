package process

import (
	"bufio"
	"os"
	"os/exec"
	"testing"
)

// BenchmarkPass is what one lookup costs in a step with 200 processes that
// wait for something: the budget is one millisecond.
func BenchmarkPass(b *testing.B) {
	for range 200 {
		cmd := exec.Command("/proc/self/exe", "idle")
		cmd.Env = append(os.Environ(), "BUILDCAGE_TEST_ROLE=1")
		out, err := cmd.StdoutPipe()
		if err != nil {
			b.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() {
			cmd.Process.Kill()
			cmd.Wait()
		})
		bufio.NewScanner(out).Scan()
	}
	t, err := openTable("/proc")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(t.close)
	step := t.own
	t.own = 0 // the processes are in this namespace; take it for that of a step
	spaces := map[uint64]*space{step: {net: step}}
	for b.Loop() {
		if err := t.refresh(); err != nil {
			b.Fatal(err)
		}
		t.members(spaces, func(p *proc) bool {
			t.sockets(p)
			return true
		})
	}
}

func BenchmarkReading(b *testing.B) {
	line := "node\x00/app/node_modules/x/install.js\x00--registry=https://npm.example.com/\x00--//npm.example.com/:_authToken=abcdef\x00"
	for b.Loop() {
		newReading("/usr/bin/node", line)
	}
}
