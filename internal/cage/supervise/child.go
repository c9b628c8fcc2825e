package supervise

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// children are the processes that the cage started, and as PID 1 the orphans
// that it inherits. Only children waits for processes: exec.Cmd.Wait would
// lose its child to the reaper.
type children struct {
	mu      sync.Mutex
	waiting map[int]chan syscall.WaitStatus
	reaping bool
}

// reap collects every child that ends, ours and inherited ones, until ctx
// ends. It is for PID 1 only.
func (cs *children) reap(ctx context.Context) {
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGCHLD)
	cs.mu.Lock()
	cs.reaping = true
	cs.mu.Unlock()
	go func() {
		defer signal.Stop(ended)
		for {
			cs.collect()
			select {
			case <-ended:
			case <-ctx.Done():
				return
			}
		}
	}()
}

func (cs *children) collect() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WNOHANG, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil || pid <= 0 {
			return
		}
		cs.mu.Lock() // start holds it until the child is known
		if ch := cs.waiting[pid]; ch != nil {
			ch <- status
			delete(cs.waiting, pid)
		}
		cs.mu.Unlock()
	}
}

// child is a running process.
type child struct {
	name    string
	process *os.Process
	done    chan struct{} // closed when it has ended and its output is read
	status  syscall.WaitStatus
	last    atomic.Pointer[string] // line of output
}

// start runs argv with env and hands its output on line by line.
func (cs *children) start(log *slog.Logger, name string, argv, env []string) (*child, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), r.Close(), w.Close())
	}
	c := &child{name: name, done: make(chan struct{})}
	status := make(chan syscall.WaitStatus, 1)
	cs.mu.Lock()
	c.process, err = os.StartProcess(argv[0], argv, &os.ProcAttr{Env: env, Files: []*os.File{null, w, w}})
	if err == nil && cs.reaping {
		if cs.waiting == nil {
			cs.waiting = make(map[int]chan syscall.WaitStatus)
		}
		cs.waiting[c.process.Pid] = status
	}
	reaping := cs.reaping
	cs.mu.Unlock()
	closed := errors.Join(w.Close(), null.Close())
	if err = errors.Join(err, closed); err != nil {
		return nil, errors.Join(fmt.Errorf("starting %s: %w", name, err), r.Close())
	}
	if !reaping {
		go func() {
			state, err := c.process.Wait()
			if err == nil {
				ws, _ := state.Sys().(syscall.WaitStatus)
				status <- ws
			}
		}()
	}
	go c.follow(log, r, status)
	return c, nil
}

// maxLine is the longest line of output that is kept in one piece.
const maxLine = 64 << 10

// follow logs the output and then takes the status. Descendants may hold the
// output open; they don't hold up the end.
func (c *child) follow(log *slog.Logger, r *os.File, status <-chan syscall.WaitStatus) {
	read := make(chan struct{})
	go func() {
		defer close(read)
		lines := bufio.NewReaderSize(r, maxLine)
		for {
			text, _, err := lines.ReadLine()
			if len(text) > 0 {
				s := string(text)
				c.last.Store(&s)
				log.Info(c.name, "line", s)
			}
			if err != nil {
				if !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
					log.Warn("reading output", "of", c.name, "error", err)
				}
				return
			}
		}
	}()
	c.status = <-status
	select {
	case <-read:
	case <-time.After(100 * time.Millisecond):
	}
	r.Close()
	close(c.done)
}

// err says how the child ended; it is for after done.
func (c *child) err() error {
	how := fmt.Sprintf("exit code %d", c.status.ExitStatus())
	if c.status.Signaled() {
		how = "signal " + c.status.Signal().String()
	}
	if last := c.last.Load(); last != nil {
		return fmt.Errorf("%s ended with %s: %s", c.name, how, *last)
	}
	return fmt.Errorf("%s ended with %s", c.name, how)
}

// stop asks the child to end, and kills it when grace or ctx is over.
func (c *child) stop(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	if err := c.process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping %s: %w", c.name, err)
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	}
	if err := c.process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing %s: %w", c.name, err)
	}
	<-c.done
	return nil
}
