package runner

import (
	"io/fs"
	"os"

	"golang.org/x/sys/windows"
)

// lock takes an exclusive lock without waiting. It goes with the open file.
func lock(f *os.File) error {
	const flags = windows.LOCKFILE_EXCLUSIVE_LOCK | windows.LOCKFILE_FAIL_IMMEDIATELY
	return windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{})
}

// mine: the temporary directory is the user's own there.
func mine(fs.FileInfo) bool { return true }
