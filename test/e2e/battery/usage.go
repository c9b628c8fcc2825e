package battery

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"

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
