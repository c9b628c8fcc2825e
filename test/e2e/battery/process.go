package battery

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// isCommand compares a process with a command name, or with a part of
// its command line when name has arguments.
func isCommand(dir, name string) bool {
	if !strings.Contains(name, " ") {
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		return err == nil && strings.TrimSpace(string(comm)) == name
	}
	line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
	return err == nil && strings.Contains(strings.ReplaceAll(string(line), "\x00", " "), name)
}

// killByName kills the processes of a container by the name of their command.
// Only those that share the PID namespace of its first process are looked at.
func killByName(first int, name string) (string, error) {
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", first))
	if err != nil {
		return "", err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return "", err
	}
	killed := 0
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil || pid == first {
			continue
		}
		ns, err := os.Readlink(filepath.Join(dir, "ns", "pid"))
		if err != nil || ns != space {
			continue
		}
		if !isCommand(dir, name) {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil {
			return "", fmt.Errorf("killing %s: %w", name, err)
		}
		killed++
	}
	if killed == 0 {
		return "", fmt.Errorf("no process %q in the cage", name)
	}
	return fmt.Sprintf("killed %d\n", killed), nil
}
