package e2e

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode"
)

// following is "logs -f" while it goes on.
type following struct {
	cmd    *exec.Cmd
	lines  chan string // closed at its end
	stderr bytes.Buffer
}

func (c *raised) follow(t *testing.T) *following {
	t.Helper()
	f := &following{cmd: exec.Command(binary, "logs", "-f", c.name), lines: make(chan string, 1000)}
	f.cmd.Stderr = &f.stderr
	out, err := f.cmd.StdoutPipe()
	if err == nil {
		err = f.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			f.lines <- scan.Text()
		}
	}()
	t.Cleanup(func() { _ = f.cmd.Process.Kill() })
	return f
}

// until returns the lines up to one with the text.
func (f *following) until(t *testing.T, text string) (all []string) {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case line, more := <-f.lines:
			if !more {
				t.Fatalf("it ended without %q:\n%s\n%s", text, strings.Join(all, "\n"), &f.stderr)
			}
			all = append(all, line)
			if strings.Contains(line, text) {
				return all
			}
		case <-late:
			t.Fatalf("no %q in a minute:\n%s", text, strings.Join(all, "\n"))
		}
	}
}

// end waits for its end and returns the exit code.
func (f *following) end(t *testing.T) int {
	t.Helper()
	late := time.After(time.Minute)
	for {
		select {
		case _, more := <-f.lines:
			if !more {
				_ = f.cmd.Wait()
				return f.cmd.ProcessState.ExitCode()
			}
		case <-late:
			t.Fatal("it goes on")
		}
	}
}

// "logs -f" tells what a step does while it runs, in words that do nothing to a
// terminal. It ends with Ctrl-C, and with the cage.
func TestLogsFollow(t *testing.T) {
	c := raise(t, allow("good.example.com"))
	patient, hasty := c.follow(t), c.follow(t)
	hostile := "\x1b]0;owned\x07\u202e::error::x\r\n##[error]y"
	dir := c.project(t, "", asks("-wait", "20s", "evil.example.com", hostile))
	built := make(chan string, 1)
	go func() {
		out, _ := buildx(t, dir, "build", "--builder", c.name, "--no-cache", "--progress", "plain", "--output", "type=cacheonly", ".")
		built <- out
	}()
	seen := hasty.until(t, "blocked step s1 http evil.example.com:80 not-allowed")
	select {
	case out := <-built:
		t.Errorf("the step was over before it was told of:\n%s", tail(out))
	default:
	}
	if err := hasty.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := hasty.end(t); code != 130 {
		t.Errorf("interrupted: exit %d, want 130\n%s", code, &hasty.stderr)
	}
	seen = append(seen, patient.until(t, "exit 0   step s1")...)
	for _, line := range seen {
		if strings.IndexFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) >= 0 {
			t.Errorf("not printable: %q", line)
		}
	}
	if all := strings.Join(seen, "\n"); !strings.Contains(all, `owned`) {
		t.Errorf("the hostile command is not told of:\n%s", all)
	}
	<-built
	run(t, ".", "down", "--volume", c.name).want(t, 0)
	if code := patient.end(t); code != 0 || !strings.Contains(patient.stderr.String(), "cage "+c.name+" has ended") {
		t.Errorf("after down: exit %d\n%s", code, &patient.stderr)
	}
}
