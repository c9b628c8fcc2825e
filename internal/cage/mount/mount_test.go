package mount

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const hybrid = `23 22 0:21 / /proc/sys ro,nosuid,nodev,noexec,relatime - proc proc rw
24 22 0:22 / /sys ro,nosuid,nodev,noexec,relatime shared:7 master:1 - sysfs sysfs ro
25 24 0:23 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw,mode=755
26 25 0:24 / /sys/fs/cgroup/cpu\040x ro,nosuid,nodev - cgroup cgroup rw,cpu
27 25 0:25 / /sys/fs/cgrouper ro - tmpfs tmpfs rw
`

func TestParse(t *testing.T) {
	points, err := parse(strings.NewReader(hybrid))
	if err != nil {
		t.Fatal(err)
	}
	want := []Point{
		{"/proc/sys", "proc", true, unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME},
		{"/sys", "sysfs", true, unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RELATIME},
		{"/sys/fs/cgroup", "tmpfs", false, unix.MS_NOSUID},
		{"/sys/fs/cgroup/cpu x", "cgroup", true, unix.MS_NOSUID | unix.MS_NODEV},
		{"/sys/fs/cgrouper", "tmpfs", true, 0},
	}
	if d := cmp.Diff(want, points, cmp.AllowUnexported(Point{})); d != "" {
		t.Errorf("points (-want +got):\n%s", d)
	}
	var chosen []string
	for _, p := range points {
		if wanted(p.Path) {
			chosen = append(chosen, p.Path)
		}
	}
	if d := cmp.Diff([]string{"/proc/sys", "/sys/fs/cgroup", "/sys/fs/cgroup/cpu x"}, chosen); d != "" {
		t.Errorf("made writable (-want +got):\n%s", d)
	}
	for _, bad := range []string{"garbage\n", "1 2 3 - proc\n"} {
		if _, err := parse(strings.NewReader(bad)); err == nil {
			t.Errorf("parsed %q", bad)
		}
	}
}
