package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// started is the program running in the background with a step that waits.
type started struct {
	cmd    *exec.Cmd
	stderr *bytes.Buffer
	exit   chan int
}

// start begins a build whose step sleeps, and returns when the step runs.
func start(t *testing.T) *started {
	t.Helper()
	dir := project(t, map[string]string{
		"Dockerfile":     "FROM buildcage-demo:base\nRUN echo step-is-running; sleep 300\n",
		"buildcage.yaml": "version: 1\n",
	})
	s := &started{stderr: &bytes.Buffer{}, exit: make(chan int, 1)}
	s.cmd = exec.Command(binary, owned([]string{"build", "--no-cache", "--progress", "plain", "."})...)
	s.cmd.Dir = dir
	pipe, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	running, gone := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(gone)
		s.collect(pipe, running)
	}()
	t.Cleanup(func() { // a test that has failed leaves no build behind
		_ = s.cmd.Process.Signal(os.Interrupt)
		select {
		case <-gone:
		case <-time.After(time.Minute):
			_ = s.cmd.Process.Kill()
		}
	})
	select {
	case <-running:
	case code := <-s.exit:
		t.Fatalf("ended with %d before the step ran:\n%s", code, s.stderr)
	case <-time.After(2 * time.Minute):
		_ = s.cmd.Process.Kill()
		t.Fatal("the step did not start")
	}
	return s
}

func (s *started) collect(pipe interface{ Read([]byte) (int, error) }, running chan struct{}) {
	buf := make([]byte, 4096)
	told := false
	for {
		n, err := pipe.Read(buf)
		s.stderr.Write(buf[:n])
		// The command itself is printed too; the output line has no "echo" before it.
		if !told && strings.Contains(s.stderr.String(), " step-is-running\n") {
			close(running)
			told = true
		}
		if err != nil {
			break
		}
	}
	err := s.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		s.exit <- exit.ExitCode()
		return
	}
	s.exit <- 0
}

func (s *started) wait(t *testing.T) int {
	t.Helper()
	select {
	case code := <-s.exit:
		return code
	case <-time.After(time.Minute):
		_ = s.cmd.Process.Kill()
		t.Fatalf("did not end:\n%s", s.stderr)
		return -1
	}
}

func cage(t *testing.T) string {
	t.Helper()
	ids := cages(t)
	if len(ids) != 1 {
		t.Fatalf("running cages: %q, want one", ids)
	}
	return ids[0]
}

func TestCageIsConfined(t *testing.T) {
	engine(t)
	s := start(t)
	var all []struct {
		HostConfig struct {
			Privileged, ReadonlyRootfs bool
			CapAdd, SecurityOpt, Binds []string
			PortBindings               map[string]any
			CgroupnsMode, NetworkMode  string
			PidMode, IpcMode, UTSMode  string
			Devices                    []any
		}
		Mounts []struct{ Type, Destination string }
	}
	if err := json.Unmarshal([]byte(docker(t, "inspect", cage(t))), &all); err != nil {
		t.Fatal(err)
	}
	h := all[0].HostConfig
	caps := strings.ReplaceAll(strings.Join(h.CapAdd, " "), "CAP_", "")
	if h.Privileged || !h.ReadonlyRootfs || len(h.Binds) > 0 || len(h.PortBindings) > 0 || len(h.Devices) > 0 {
		t.Errorf("privileged %v, read-only %v, binds %v, ports %v, devices %v", h.Privileged, h.ReadonlyRootfs, h.Binds, h.PortBindings, h.Devices)
	}
	for _, c := range []string{"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE"} {
		if !strings.Contains(caps, c) {
			t.Errorf("capabilities %q lack %s", caps, c)
		}
	}
	if len(h.CapAdd) != 3 {
		t.Errorf("capabilities %q, want three", caps)
	}
	var seccomp bool
	for _, o := range h.SecurityOpt {
		seccomp = seccomp || strings.HasPrefix(o, "seccomp={") || strings.HasPrefix(o, "seccomp=")
		if strings.Contains(o, "seccomp=unconfined") {
			t.Error("seccomp is off")
		}
	}
	if !seccomp || h.CgroupnsMode != "private" || h.PidMode == "host" || h.NetworkMode == "host" {
		t.Errorf("security %.60v, cgroupns %q, pid %q, network %q", h.SecurityOpt, h.CgroupnsMode, h.PidMode, h.NetworkMode)
	}
	for _, m := range all[0].Mounts {
		if m.Type == "bind" {
			t.Errorf("bind mount at %s", m.Destination)
		}
	}
	_ = s.cmd.Process.Signal(syscall.SIGINT)
	if code := s.wait(t); code != 130 {
		t.Errorf("interrupted: exit %d, want 130\n%s", code, s.stderr)
	}
}

func TestKilledClientLeavesNothingAfterOneMoreRun(t *testing.T) {
	engine(t)
	s := start(t)
	if err := s.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	s.wait(t)
	dir := project(t, map[string]string{"Dockerfile": "FROM buildcage-demo:base\nRUN true\n", "buildcage.yaml": "version: 1\n"})
	run(t, dir, "build", "--output", "type=cacheonly", ".").want(t, 0)
	if docker(t, "volume", "ls", "-q", "--filter", "name="+prefix()) == "" {
		t.Error("the state volume is gone")
	}
}

func TestKilledCageIsNeverClean(t *testing.T) {
	engine(t)
	s := start(t)
	docker(t, "kill", cage(t))
	if code := s.wait(t); code != 125 {
		t.Errorf("exit %d, want 125\n%s", code, s.stderr)
	}
	if !strings.Contains(s.stderr.String(), "buildcage: error:") || !strings.Contains(s.stderr.String(), "buildcage: hint:") {
		t.Errorf("no error and hint:\n%s", tail(s.stderr.String()))
	}
}

func TestFailedBuildIsOne(t *testing.T) {
	engine(t)
	dir := project(t, map[string]string{"Dockerfile": "FROM buildcage-demo:base\nRUN exit 7\n", "buildcage.yaml": "version: 1\n"})
	r := run(t, dir, "build", "--no-cache", ".").want(t, 1)
	if r.report.Outcome == "clean" || !r.report.Complete {
		t.Errorf("outcome %q, complete %v", r.report.Outcome, r.report.Complete)
	}
	if !strings.Contains(r.stderr, "Dockerfile:2") {
		t.Errorf("the failing line is not shown:\n%s", tail(r.stderr))
	}
}

func TestBadInput(t *testing.T) {
	engine(t)
	ok := "FROM buildcage-demo:base\nRUN true\n"
	for name, c := range map[string]struct {
		config string
		args   []string
		code   int
		say    string
	}{
		"unknown key":     {"version: 1\nallowed_htps_rules: [a.example.com]\n", []string{"build", "."}, 2, "buildcage.yaml:2:1"},
		"bad rule":        {"version: 1\nallowed_https_rules:\n  - \"*.exa mple.com\"\n", []string{"build", "."}, 2, "buildcage.yaml:3:"},
		"tab":             {"version: 1\nallowed_https_rules:\n\t- a.example.com\n", []string{"build", "."}, 2, "buildcage.yaml:3:"},
		"duplicate key":   {"version: 1\nversion: 1\n", []string{"build", "."}, 2, "buildcage.yaml:2:1"},
		"host network":    {"version: 1\n", []string{"build", "--network", "host", "."}, 2, "network"},
		"insecure":        {"version: 1\n", []string{"build", "--allow", "security.insecure", "."}, 2, "security.insecure"},
		"unknown flag":    {"version: 1\n", []string{"build", "--no-such-flag", "."}, 2, "no-such-flag"},
		"missing file":    {"version: 1\n", []string{"build", "-f", "Nowhere", "."}, 2, "Nowhere"},
		"missing context": {"version: 1\n", []string{"build", "no-such-dir"}, 2, "no-such-dir"},
		"unwritable":      {"version: 1\n", []string{"audit", "--write", "/proc/nope/buildcage.yaml", "."}, 2, "/proc/nope"},
		"bad allow flag":  {"version: 1\n", []string{"build", "--allow-https", "a b:c", "."}, 2, "--allow-https"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := project(t, map[string]string{"Dockerfile": ok, "buildcage.yaml": c.config})
			r := run(t, dir, c.args...).want(t, c.code)
			if !strings.Contains(r.stderr, "buildcage: error: ") || !strings.Contains(r.stderr, "buildcage: hint: ") || !strings.Contains(r.stderr, c.say) {
				t.Errorf("want an error, a hint and %q:\n%s", c.say, r.stderr)
			}
		})
	}
}

func TestNoEngine(t *testing.T) {
	engine(t)
	dir := project(t, map[string]string{"Dockerfile": "FROM scratch\n", "buildcage.yaml": "version: 1\n"})
	t.Setenv("DOCKER_HOST", "unix://"+filepath.Join(dir, "nobody.sock"))
	r := run(t, dir, "build", ".").want(t, 125)
	if !strings.Contains(r.stderr, "buildcage: hint: ") {
		t.Errorf("no hint:\n%s", r.stderr)
	}
	t.Setenv("DOCKER_HOST", "")
}
