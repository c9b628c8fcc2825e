package battery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/test/e2e/lab"
)

// usage tells what the cage's first process has taken so far: "peak N MiB" of
// memory and "open N" descriptors.
func usage(_ context.Context, _ *Run, cage *lab.Cage, _ []string) (string, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", cage.PID))
	if err != nil {
		return "", err
	}
	peak := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if peak == nil {
		return "", errors.New("the kernel tells no VmHWM")
	}
	kib, err := strconv.Atoi(string(peak[1]))
	if err != nil {
		return "", err
	}
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", cage.PID))
	return fmt.Sprintf("peak %d MiB\nopen %d\n", kib>>10, len(open)), err
}

// rezone puts one more line before the zone of the case. In it CAGE is the
// cage's own address on the lab's network, which nobody knows before it runs.
func rezone(ctx context.Context, r *Run, cage *lab.Cage, args []string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", "inspect", "--format",
		fmt.Sprintf("{{(index .NetworkSettings.Networks %q).IPAddress}}", lab.Network), cage.ID).Output()
	if err != nil {
		return "", fmt.Errorf("asking for the cage's address: %w", err)
	}
	line := strings.ReplaceAll(strings.Join(args, " "), "CAGE", strings.TrimSpace(string(out)))
	return line, r.Lab.Names.Script(ctx, line+"\n"+r.fill(r.Case.Zone)+baseZone)
}

// full leaves the file system that the record is written to as good as no room.
func full(_ context.Context, _ *Run, cage *lab.Cage, _ []string) (string, error) {
	dir := filepath.Dir(contract.JournalFile)
	var s unix.Statfs_t
	if err := unix.Statfs(fmt.Sprintf("/proc/%d/root%s", cage.PID, dir), &s); err != nil {
		return "", fmt.Errorf("asking for the room of %s: %w", dir, err)
	}
	size := (int64(s.Blocks-s.Bfree) + 2) * s.Bsize
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with its foreign namespace
		done <- remount(cage.PID, dir, size)
	}()
	return fmt.Sprintf("%s has %d bytes\n", dir, size), <-done
}

// remount changes the size of the tmpfs that dir is on, in a container's mount namespace.
func remount(pid int, dir string, size int64) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return fmt.Errorf("leaving the shared root: %w", err)
	}
	if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("entering the cage's mounts: %w", err)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) { // up to the mount point
		err = unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%d", size))
		if err == nil {
			break
		}
	}
	return err
}
