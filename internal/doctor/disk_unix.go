//go:build linux || darwin

package doctor

import "golang.org/x/sys/unix"

// free is the room at path for those who are not root; nil where it can't be
// looked at.
func free(path string) *uint64 {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return nil
	}
	n := st.Bavail * uint64(st.Bsize)
	return &n
}
