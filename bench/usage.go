package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// peak runs a program and returns the most memory that it had, in bytes. A
// small process of ours starts it: Linux counts for a program what its parent had
// at most when that made it, and the benchmark has had whole images.
func peak(ctx context.Context, name string, args ...string) (int64, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"usage", name}, args...)...)
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w: %s", name, args[0], err, strings.TrimSpace(said.String()))
	}
	return strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
}

// usage is that small process. It prints nothing but the figure.
func usage(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return err
	}
	used, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return errors.New("the kernel does not say how much memory the program used")
	}
	_, err := fmt.Println(used.Maxrss << 10)
	return err
}
