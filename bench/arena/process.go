package arena

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Process is a running program of the arena.
type Process struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	log strings.Builder
}

// cores are two processors for the two sides of a measurement, or one for both.
func cores() ([]int, error) {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil, fmt.Errorf("listing processors: %w", err)
	}
	var list []int
	for i := range 1024 {
		if set.IsSet(i) {
			list = append(list, i)
		}
	}
	return list, nil
}

func (a *Arena) proxies() int { return a.cores[0] }
func (a *Arena) loads() int   { return a.cores[min(1, len(a.cores)-1)] }

// start runs a program in a namespace and on a processor. All end with the
// arena, which is the first process of its PID namespace.
func (a *Arena) start(ctx context.Context, s *space, core int, name string, args ...string) (*Process, error) {
	p := &Process{cmd: exec.CommandContext(ctx, name, args...)}
	p.cmd.Stderr = &p.log
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.out = bufio.NewReader(out)
	done := make(chan error)
	go func() { done <- p.launch(s, core) }()
	if err := <-done; err != nil {
		return nil, fmt.Errorf("starting %s: %w", filepath.Base(name), err)
	}
	a.later(p.stop)
	return p, nil
}

// launch starts the process from a thread that is in the namespace meanwhile.
func (p *Process) launch(s *space, core int) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		return err
	}
	defer home.Close()
	var before, only unix.CPUSet
	only.Set(core)
	if err := errors.Join(unix.SchedGetaffinity(0, &before), netns.Set(s.handle), unix.SchedSetaffinity(0, &only)); err != nil {
		return err
	}
	err = p.cmd.Start()
	return errors.Join(err, netns.Set(home), unix.SchedSetaffinity(0, &before))
}

// expect waits for a line that contains text.
func (p *Process) expect(text string) error {
	line, err := p.out.ReadString('\n')
	if err != nil || !strings.Contains(line, text) {
		_ = p.stop()
		return fmt.Errorf("expected %q, got %q: %s", text, line, p.log.String())
	}
	return nil
}

// stop ends the process.
func (p *Process) stop() error {
	if p.cmd.ProcessState != nil {
		return nil
	}
	p.in.Close()
	_ = p.cmd.Process.Signal(unix.SIGTERM) // it may be gone
	late := time.AfterFunc(3*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	_, _ = io.Copy(io.Discard, p.out)
	_ = p.cmd.Wait() // how it ended is of no interest any more
	return nil
}

// Processor is the time that the process has used on processors.
func (p *Process) Processor() (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.cmd.Process.Pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("reading processor time: %d threads, %w", len(files), err)
	}
	var total time.Duration
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that ended
		}
		ns, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(ns, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("reading processor time: %w", err)
		}
		total += time.Duration(n)
	}
	return total, nil
}

// Memory is what the process has in memory, in bytes, without what it shares.
func (p *Process) Memory() (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("reading memory: %w", err)
	}
	var total int64
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "Rss:" {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("reading memory: %w", err)
			}
			total += n << 10
		}
	}
	return total, nil
}

// Files is how many descriptors the process has open.
func (p *Process) Files() (int, error) {
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	return len(list), err
}
