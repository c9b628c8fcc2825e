package runtime

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/cage/control"
)

// terminal returns both ends of a new one.
func terminal(t *testing.T) (far, near *os.File) {
	t.Helper()
	far, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(far.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(far.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	if near, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	raw, err := unix.IoctlGetTermios(int(near.Fd()), unix.TCGETS)
	if err == nil {
		raw.Oflag &^= unix.OPOST // as a program in the step may have left it
		err = unix.IoctlSetTermios(int(near.Fd()), unix.TCSETS, raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	return far, near
}

// What the step is told is in its log before it ends, with a terminal and without.
func TestStepIsTold(t *testing.T) {
	const state = "/var/lib/x"
	for name, want := range map[string]string{"pipe": "first\n", "terminal": "first\r\n"} {
		t.Run(name, func(t *testing.T) {
			far, near, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			if name == "terminal" {
				far, near = terminal(t)
			}
			defer func(old *os.File) { os.Stderr = old }(os.Stderr)
			os.Stderr = near
			lines := make(chan string, 2)
			lines <- "first"
			socket := filepath.Join(t.TempDir(), "run", "control.sock")
			l, err := control.Listen(socket)
			if err != nil {
				t.Fatal(err)
			}
			server := &control.Server{
				StepStart: func(context.Context, control.Start) (string, error) { return "s1", nil },
				StepLines: func(string) <-chan string { return lines },
				StepExit:  func(string, int) { close(lines) },
			}
			ctx, stop := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- server.Serve(ctx, l) }()
			defer func() { stop(); <-done }()

			runc, _ := fakeRunc(t, "exit 5")
			code := Wrapper{Runc: runc, Socket: socket, State: state}.Main([]string{"run", "--bundle", write(t, spec(state)), "x"})
			if code != 5 {
				t.Errorf("exit code %d, want that of the step", code)
			}
			if err := far.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil && name == "pipe" {
				t.Fatal(err)
			}
			if got, err := bufio.NewReader(far).ReadString('\n'); got != want {
				t.Errorf("log has %q, %v, want %q", got, err, want)
			}
		})
	}
}
