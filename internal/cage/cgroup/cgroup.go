// Package cgroup prepares the control groups of the cage so that runc can make
// groups of its own for steps. With version 2 a group that hands controllers
// to its children can't hold processes, so they move into a leaf. With
// version 1 and in hybrid set-ups nothing is to be done.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Root is where control groups are mounted.
const Root = "/sys/fs/cgroup"

// leaf is the group that holds the cage's own processes.
const leaf = "init"

// Unified reports whether root is a version 2 hierarchy.
func Unified(root string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return false, fmt.Errorf("looking at %s: %w", root, err)
	}
	return st.Type == unix.CGROUP2_SUPER_MAGIC, nil
}

// Delegate moves every process of the root group into a leaf and hands all
// controllers down. It is for version 2 and idempotent.
func Delegate(root string) error {
	group := filepath.Join(root, leaf)
	if err := os.Mkdir(group, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("making group %s: %w", leaf, err)
	}
	// Processes can appear while we move; a handful of rounds settles it.
	for range 10 {
		moved, err := move(root, group)
		if err != nil {
			return err
		}
		if moved == 0 {
			break
		}
	}
	return enable(root)
}

func move(from, to string) (int, error) {
	b, err := os.ReadFile(filepath.Join(from, "cgroup.procs"))
	if err != nil {
		return 0, fmt.Errorf("listing processes: %w", err)
	}
	moved := 0
	for pid := range strings.FieldsSeq(string(b)) {
		err := os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(pid), 0)
		switch {
		case err == nil:
			moved++
		case errors.Is(err, unix.ESRCH): // it is gone
		case pid == "0": // of another PID namespace
		default:
			return moved, fmt.Errorf("moving process %s to group %s: %w", pid, leaf, err)
		}
	}
	return moved, nil
}

// enable hands down each controller by itself: one that refuses (cpu with
// real-time processes, for one) must not cost the others.
func enable(root string) error {
	b, err := os.ReadFile(filepath.Join(root, "cgroup.controllers"))
	if err != nil {
		return fmt.Errorf("listing controllers: %w", err)
	}
	for name := range strings.FieldsSeq(string(b)) {
		err := os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte("+"+name), 0)
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EOPNOTSUPP) {
			return fmt.Errorf("enabling controller %s: %w", name, err)
		}
	}
	return nil
}
