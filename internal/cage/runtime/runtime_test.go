package runtime

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/buildcage/buildcage/internal/cage/control"
)

func TestCommand(t *testing.T) {
	for want, args := range map[string][]string{
		"npm ci":                {"/bin/sh", "-c", "npm ci"},
		"set -e; make":          {"/bin/bash", "-eo", "pipefail", "-c", " set -e; make\n"},
		"true":                  {"bash", "-exc", "true"},
		"/bin/ls -la 'a b' ''":  {"/bin/ls", "-la", "a b", ""},
		"sh script.sh -c x":     {"sh", "script.sh", "-c", "x"},
		"sh --rc x":             {"sh", "--rc", "x"},
		"python -c 'import os'": {"python", "-c", "import os"},
		"sh -c":                 {"sh", "-c"},
		`echo 'it'\''s'`:        {"echo", "it's"},
		"":                      nil,
	} {
		if got := Command(args); got != want {
			t.Errorf("command of %q: %q, want %q", args, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	args := strings.Fields("--log /l/runc-log.json --log-format json run --bundle /b --preserve-fds=2 --keep abc")
	got := parse(args)
	if got.command != "run" || got.bundle != "/b" || got.log != "/l/runc-log.json" || got.preserve != 2 || !got.starts() {
		t.Errorf("%+v", got)
	}
	for line, starts := range map[string]bool{
		"--root run state id": false, "create -b /x id": true, "restore id": true, "exec --process run id": false, "--version": false,
	} {
		if got := parse(strings.Fields(line)); got.starts() != starts {
			t.Errorf("%q: %+v", line, got)
		}
	}
}

// spec is a step's configuration as BuildKit writes it.
func spec(state string) *specs.Spec {
	caps := []string{"CAP_CHOWN", "CAP_NET_RAW", "CAP_MKNOD"}
	return &specs.Spec{
		Process: &specs.Process{
			Args: []string{"/bin/sh", "-c", "npm ci"},
			Env: append([]string{"PATH=/bin", "OTEL_TRACES_EXPORTER=none", "TRACEPARENT=00-1-2-01", "TRACESTATE=x"},
				tracingEnv()...),
			Capabilities: &specs.LinuxCapabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/etc/hosts", Type: "bind", Source: filepath.Join(state, "executor/hosts"), Options: []string{"rbind", "ro"}},
			{Destination: "/run/secrets/npm", Type: "bind", Source: filepath.Join(os.TempDir(), "buildkit-secrets12/x"), Options: []string{"ro", "rbind"}},
			{Destination: "/run/buildkit/ssh_agent.0", Type: "bind", Source: filepath.Join(os.TempDir(), ".buildkit-ssh-sock12/ssh_auth_sock"), Options: []string{"rbind"}},
			{Destination: tracingSocket, Type: "bind", Source: "/run/buildkit/otel-grpc.sock", Options: []string{"ro", "rbind"}},
		},
		Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{
			{Type: specs.PIDNamespace}, {Type: specs.IPCNamespace}, {Type: specs.UTSNamespace}, {Type: specs.MountNamespace},
			{Type: specs.NetworkNamespace, Path: filepath.Join(state, "net/cni/abc")},
		}},
	}
}

func write(t *testing.T, s *specs.Spec) (bundle string) {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	bundle = t.TempDir()
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), b, 0o644); err != nil {
		t.Fatal(err)
	}
	return bundle
}

func TestPrepare(t *testing.T) {
	state := "/var/lib/x"
	own := spec(state)
	own.Linux.CgroupsPath = "/buildkit/abc"
	bundle := write(t, own)
	start, err := prepare(bundle, state)
	if err != nil {
		t.Fatal(err)
	}
	want := control.Start{
		Command: "npm ci", Secrets: []string{"/run/secrets/npm", "/run/buildkit/ssh_agent.0"},
		NetNS: filepath.Join(state, "net/cni/abc"), Traceparent: "00-1-2-01",
	}
	if d := cmp.Diff(want, start); d != "" {
		t.Errorf("start (-want +got):\n%s", d)
	}
	b, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, gone := range []string{"NET_RAW", "TRACEPARENT", "TRACESTATE", "otel-grpc", "OTLP"} {
		if bytes.Contains(b, []byte(gone)) {
			t.Errorf("%s is still in %s", gone, b)
		}
	}
	for _, kept := range []string{"PATH=/bin", "OTEL_TRACES_EXPORTER=none", "CAP_MKNOD", "/run/secrets/npm"} {
		if !bytes.Contains(b, []byte(kept)) {
			t.Errorf("%s is gone from %s", kept, b)
		}
	}
}

func TestStepsApart(t *testing.T) {
	own := spec("/var/lib/x")
	own.Linux.CgroupsPath = "/buildcage-apart-0123456789abcdef/buildkit/abc"
	if _, err := prepare(write(t, own), "/var/lib/x"); err != nil {
		t.Error(err)
	}
}

func TestRefused(t *testing.T) {
	state := "/var/lib/x"
	network := func(s *specs.Spec) *specs.LinuxNamespace { return &s.Linux.Namespaces[4] }
	for name, change := range map[string]func(*specs.Spec){
		"network of the cage":   func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[:4] },
		"foreign network":       func(s *specs.Spec) { network(s).Path = "/proc/1/ns/net" },
		"climbing network":      func(s *specs.Spec) { network(s).Path = state + "/net/cni/../../../proc/1/ns/net" },
		"network of a sibling":  func(s *specs.Spec) { network(s).Path = state + "/net/cnix/abc" },
		"processes of the cage": func(s *specs.Spec) { s.Linux.Namespaces = s.Linux.Namespaces[1:] },
		"joined processes":      func(s *specs.Spec) { s.Linux.Namespaces[0].Path = "/proc/1/ns/pid" },
		"capability": func(s *specs.Spec) {
			s.Process.Capabilities.Bounding = append(s.Process.Capabilities.Bounding, "CAP_SYS_ADMIN")
		},
		"ambient capability": func(s *specs.Spec) { s.Process.Capabilities.Ambient = []string{"CAP_NET_ADMIN"} },
		"hooks":              func(s *specs.Spec) { s.Hooks = &specs.Hooks{CreateRuntime: []specs.Hook{{Path: "/x"}}} },
		"control socket": func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "bind", Source: "/run/buildcage/control.sock"})
		},
		"all of the cage": func(s *specs.Spec) {
			s.Mounts = append(s.Mounts, specs.Mount{Destination: "/x", Type: "none", Source: "/", Options: []string{"rbind"}})
		},
		"another cgroup":  func(s *specs.Spec) { s.Linux.CgroupsPath = "/system/buildkit/abc" },
		"a cgroup apart":  func(s *specs.Spec) { s.Linux.CgroupsPath = "/buildcage-apart-0a/x/buildkit/abc" },
		"all apart":       func(s *specs.Spec) { s.Linux.CgroupsPath = "/buildcage-apart-/buildkit/abc" },
		"beside buildkit": func(s *specs.Spec) { s.Linux.CgroupsPath = "/buildcage-apart-0a/abc" },
		"a slice":         func(s *specs.Spec) { s.Linux.CgroupsPath = "system.slice:abc" },
		"no linux":        func(s *specs.Spec) { s.Linux = nil },
	} {
		s := spec(state)
		change(s)
		_, err := prepare(write(t, s), state)
		var refused *RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("%s: %v, want it refused", name, err)
		}
	}
	s := spec(state)
	network(s).Path = ""
	if start, err := prepare(write(t, s), state); err != nil || start.NetNS != "" {
		t.Errorf("a step without network: %+v, %v", start, err)
	}
}

// caged answers the wrapper.
func caged(t *testing.T, accept func(control.Start) error) (socket string, ends chan int) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "run", "control.sock")
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ends = make(chan int, 1)
	s := &control.Server{
		StepStart: func(_ context.Context, s control.Start) (string, error) { return "s1", accept(s) },
		StepExit:  func(_ string, code int) { ends <- code },
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() { stop(); <-done })
	return socket, ends
}

// fakeRunc leaves its arguments behind and ends as told.
func fakeRunc(t *testing.T, script string) (runc, ran string) {
	t.Helper()
	dir := t.TempDir()
	runc, ran = filepath.Join(dir, "runc"), filepath.Join(dir, "ran")
	script = "#!/bin/sh\necho \"$@\" > " + ran + "\n" + script + "\n"
	if err := os.WriteFile(runc, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return runc, ran
}

func TestRun(t *testing.T) {
	const state = "/var/lib/x"
	for script, want := range map[string]int{"exit 7": 7, "exit 0": 0, "kill -9 $$": 137} {
		runc, ran := fakeRunc(t, script)
		socket, ends := caged(t, func(control.Start) error {
			if _, err := os.Stat(ran); err == nil {
				return errors.New("it runs already")
			}
			return nil
		})
		bundle := write(t, spec(state))
		code := Wrapper{runc, socket, state}.Main([]string{"run", "--bundle", bundle, "--keep", "id"})
		if code != want || <-ends != want {
			t.Errorf("%q: exit code %d, want %d", script, code, want)
		}
		if args, err := os.ReadFile(ran); err != nil || string(args) != "run --bundle "+bundle+" --keep id\n" {
			t.Errorf("runc got %q, %v", args, err)
		}
	}
}

func TestNotRegisteredNotRun(t *testing.T) {
	const state = "/var/lib/x"
	deny, _ := caged(t, func(control.Start) error { return errors.New("the record is closed") })
	for socket, want := range map[string]string{deny: "the record is closed", "/nonexistent": "no such file"} {
		runc, ran := fakeRunc(t, "exit 0")
		log := filepath.Join(t.TempDir(), "log.json")
		code := Wrapper{runc, socket, state}.Main([]string{"--log", log, "run", "--bundle", write(t, spec(state)), "id"})
		if code != failed {
			t.Errorf("exit code %d", code)
		}
		if _, err := os.Stat(ran); err == nil {
			t.Error("runc was started")
		}
		var line struct{ Level, Msg string }
		b, _ := os.ReadFile(log)
		if err := json.Unmarshal(b, &line); err != nil || line.Level != "error" || !strings.Contains(line.Msg, want) {
			t.Errorf("log %q, %v, want %q in it", b, err, want)
		}
	}
}
