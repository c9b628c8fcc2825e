// Package mount makes the file system of the cage container fit for BuildKit
// and runc without the container being privileged: what the engine mounted
// read-only for it is remounted read-write, and nothing is mounted anew.
package mount

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Point is one line of mountinfo.
type Point struct {
	Path     string
	Type     string // cgroup, cgroup2, proc, tmpfs, …
	ReadOnly bool
	flags    uintptr // the per-mount flags that a remount must repeat
}

// Points lists the mounts of this process, in mount order.
func Points() ([]Point, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	defer f.Close()
	return parse(f)
}

// perMount are the options that belong to the mount, not to the file system.
var perMount = map[string]uintptr{
	"nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC,
	"noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME, "relatime": unix.MS_RELATIME,
}

func parse(r io.Reader) ([]Point, error) {
	var points []Point
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		left, right, ok := strings.Cut(lines.Text(), " - ")
		fields, after := strings.Fields(left), strings.Fields(right)
		if !ok || len(fields) < 6 || len(after) < 1 {
			return nil, fmt.Errorf("listing mounts: malformed line %q", lines.Text())
		}
		p := Point{Path: unescape(fields[4]), Type: after[0]}
		for option := range strings.SplitSeq(fields[5], ",") {
			p.flags |= perMount[option]
			p.ReadOnly = p.ReadOnly || option == "ro"
		}
		points = append(points, p)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("listing mounts: %w", err)
	}
	return points, nil
}

// unescape undoes the octal escapes of mountinfo.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// Writable remounts read-write: /proc/sys and everything that is mounted at or
// below /sys/fs/cgroup, whatever the version of cgroups.
func Writable() error {
	points, err := Points()
	if err != nil {
		return err
	}
	for _, p := range points {
		if !p.ReadOnly || !wanted(p.Path) {
			continue
		}
		flags := unix.MS_REMOUNT | unix.MS_BIND | p.flags
		if err := unix.Mount("", p.Path, "", flags, ""); err != nil {
			return fmt.Errorf("remounting %s read-write: %w", p.Path, err)
		}
	}
	return nil
}

func wanted(path string) bool {
	return path == "/proc/sys" || path == "/sys/fs/cgroup" || strings.HasPrefix(path, "/sys/fs/cgroup/")
}

// Cover bind-mounts the file src, read-only, over dst.
func Cover(src, dst string) error {
	if err := unix.Mount(src, dst, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mounting over %s: %w", dst, err)
	}
	flags := uintptr(unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("", dst, "", flags, ""); err != nil {
		return fmt.Errorf("mounting over %s: %w", dst, err)
	}
	return nil
}

// Private keeps later mounts from propagating out of the container.
func Private() error {
	err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("making mounts private: %w", err)
	}
	return nil
}
