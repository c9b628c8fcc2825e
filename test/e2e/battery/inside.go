package battery

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/buildcage/buildcage/test/e2e/lab"
)

// privileged runs scripts of the context in the network namespace and on the
// root of waiting steps, with every capability: what a step could do if the
// cage had not taken NET_RAW and NET_ADMIN from it. SCRIPT is NAME.sh, for the
// step that runs "probe wait NAME". It tells whether the cage's routes and
// neighbours stayed as they were; CAGE and GATEWAY are its addresses.
func privileged(ctx context.Context, r *Run, cage *lab.Cage, scripts []string) (string, error) {
	if len(scripts) == 0 {
		return "", errors.New("privileged wants scripts")
	}
	before, address, err := cageState(cage.PID)
	if err != nil {
		return "", err
	}
	type result struct {
		out string
		err error
	}
	results := make(chan result, len(scripts))
	for _, name := range scripts {
		text, err := os.ReadFile(filepath.Join(r.Dir, name))
		if err != nil {
			return "", err
		}
		go func() {
			pid, err := waitingStep(ctx, cage.PID, strings.TrimSuffix(filepath.Base(name), ".sh"))
			if err != nil {
				results <- result{"", err}
				return
			}
			out, err := inside(ctx, pid, string(text), []string{"PATH=/bin", "CAGE=" + address, "MODE=" + string(r.Mode)})
			results <- result{fmt.Sprintf("%s:\n%s\n", name, out), err}
		}()
	}
	var output strings.Builder
	var errs []error
	for range scripts {
		res := <-results
		output.WriteString(res.out)
		errs = append(errs, res.err)
	}
	together, err := joined(cage.PID)
	errs = append(errs, err)
	output.WriteString(together)
	after, _, err := cageState(cage.PID)
	switch changed := changes(before, after); {
	case err != nil:
		errs = append(errs, err)
	case len(changed) == 0:
		output.WriteString("the cage's routes and neighbours are unchanged\n")
	default:
		fmt.Fprintf(&output, "CHANGED in the cage: %v\n", changed)
	}
	return output.String(), errors.Join(errs...)
}

// waitingStep finds the process "probe wait NAME" below the cage's first one.
func waitingStep(ctx context.Context, first int, name string) (int, error) {
	for {
		files, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return 0, err
		}
		for _, file := range files {
			b, err := os.ReadFile(file)
			if err != nil || strings.TrimRight(string(b), "\x00") != "probe\x00wait\x00"+name {
				continue
			}
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err == nil && below(pid, first) {
				return pid, nil
			}
		}
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("no step runs probe wait %s: %w", name, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// below says that one process descends from another.
func below(pid, first int) bool {
	for pid > 1 && pid != first {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
		if len(fields) < 2 {
			return false
		}
		if pid, err = strconv.Atoi(fields[1]); err != nil {
			return false
		}
	}
	return pid == first
}

// inside runs a shell script on a process's root and in its network.
func inside(ctx context.Context, pid int, script string, env []string) (string, error) {
	space, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return "", err
	}
	defer space.Close()
	type result struct {
		out []byte
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- result{nil, fmt.Errorf("entering the step's network: %w", err)}
			return
		}
		cmd := exec.CommandContext(ctx, "/bin/sh", "-c", script)
		cmd.Dir, cmd.Env = "/", env
		cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: fmt.Sprintf("/proc/%d/root", pid)}
		out, err := cmd.CombinedOutput()
		done <- result{out, err}
	}()
	res := <-done
	if res.err != nil {
		return string(res.out), fmt.Errorf("script in the step: %w: %s", res.err, tail(string(res.out)))
	}
	return string(res.out), nil
}

// cageState lists routes and neighbours in the cage's network, and its address.
func cageState(pid int) (state []string, address string, err error) {
	space, err := netns.GetFromPid(pid)
	if err != nil {
		return nil, "", fmt.Errorf("opening the cage's network: %w", err)
	}
	defer space.Close()
	h, err := netlink.NewHandleAt(space)
	if err != nil {
		return nil, "", err
	}
	defer h.Close()
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		routes, err := h.RouteList(nil, family)
		if err != nil {
			return nil, "", err
		}
		for i := range routes {
			r := &routes[i]
			state = append(state, fmt.Sprintf("route %v via %v link %d", r.Dst, r.Gw, r.LinkIndex))
		}
		neighbours, err := h.NeighList(0, family)
		if err != nil {
			return nil, "", err
		}
		for _, n := range neighbours {
			if len(n.HardwareAddr) == 6 && n.State&(netlink.NUD_NOARP|netlink.NUD_FAILED) == 0 {
				state = append(state, fmt.Sprintf("neighbour %v link %d is %v", n.IP, n.LinkIndex, n.HardwareAddr))
			}
		}
	}
	addrs, err := h.AddrList(nil, unix.AF_INET)
	if err != nil {
		return nil, "", err
	}
	_, subnet, err := net.ParseCIDR("10.200.0.0/24")
	if err != nil {
		return nil, "", err
	}
	for _, a := range addrs {
		if subnet.Contains(a.IP) {
			address = a.IP.String()
		}
	}
	return state, address, nil
}

// changes are routes that came or went, and neighbours that became another. A
// neighbour that is new or forgotten is ordinary.
func changes(before, after []string) (list []string) {
	for _, line := range after {
		key, _, neighbour := strings.Cut(line, " is ")
		known := slices.ContainsFunc(before, func(b string) bool { return strings.HasPrefix(b, key+" is ") })
		if !slices.Contains(before, line) && (!neighbour || known) {
			list = append(list, "+ "+line)
		}
	}
	for _, line := range before {
		if !strings.HasPrefix(line, "neighbour") && !slices.Contains(after, line) {
			list = append(list, "- "+line)
		}
	}
	return list
}

// abstract listens on an abstract unix socket in the cage's own network
// namespace until the run ends.
func abstract(ctx context.Context, _ *Run, cage *lab.Cage, args []string) (string, error) {
	if len(args) != 1 {
		return "", errors.New("abstract wants a name")
	}
	space, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", cage.PID))
	if err != nil {
		return "", err
	}
	defer space.Close()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Setns(int(space.Fd()), unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		l, err := net.Listen("unix", "@"+args[0])
		if err == nil {
			context.AfterFunc(ctx, func() { l.Close() })
		}
		done <- err
	}()
	return "listening\n", <-done
}
