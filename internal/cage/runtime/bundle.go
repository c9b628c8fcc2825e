package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/contract"
)

// prepare checks the bundle's configuration, rewrites it and says what starts.
func prepare(bundle, state string) (control.Start, error) {
	file := filepath.Join(bundle, "config.json")
	b, err := os.ReadFile(file)
	if err != nil {
		return control.Start{}, fmt.Errorf("reading the step's configuration: %w", err)
	}
	var spec specs.Spec
	if err := json.Unmarshal(b, &spec); err != nil {
		return control.Start{}, fmt.Errorf("reading the step's configuration: %w", err)
	}
	start := describe(&spec)
	if start.NetNS, err = check(&spec, state); err != nil {
		return control.Start{}, err
	}
	strip(&spec)
	if b, err = json.Marshal(&spec); err != nil {
		return control.Start{}, fmt.Errorf("writing the step's configuration: %w", err)
	}
	// A new file under the same name: a reader sees the old one or the new one.
	next := file + ".caged"
	if err := os.WriteFile(next, b, 0o644); err != nil {
		return control.Start{}, fmt.Errorf("writing the step's configuration: %w", err)
	}
	if err := os.Rename(next, file); err != nil {
		return control.Start{}, fmt.Errorf("writing the step's configuration: %w", err)
	}
	return start, nil
}

// describe reads who the step is.
func describe(spec *specs.Spec) control.Start {
	var s control.Start
	if spec.Process != nil {
		s.Command = Command(spec.Process.Args)
		for _, e := range spec.Process.Env {
			if v, ok := strings.CutPrefix(e, "TRACEPARENT="); ok {
				s.Traceparent = v
			}
		}
	}
	for _, m := range spec.Mounts {
		if confidential(m) {
			s.Secrets = append(s.Secrets, m.Destination)
		}
	}
	return s
}

// confidential reports whether BuildKit mounts a secret or an ssh agent: both
// come from a temporary directory with a name of its own.
func confidential(m specs.Mount) bool {
	return strings.HasPrefix(m.Source, filepath.Join(os.TempDir(), "buildkit-secrets")) ||
		strings.HasPrefix(m.Source, filepath.Join(os.TempDir(), ".buildkit-ssh-sock"))
}

// Command is the text of a step's command: what stands behind the shell, or
// the arguments, quoted where they would not read as they are.
func Command(args []string) string {
	if n := len(args); n >= 3 && shell(args[0]) && runs(args[1:n-1]) {
		return strings.TrimSpace(args[n-1])
	}
	words := make([]string, len(args))
	for i, a := range args {
		if words[i] = a; a == "" || strings.ContainsAny(a, " \t\r\n\"'`$&|;<>()\\*?#~") {
			words[i] = "'" + strings.ReplaceAll(a, "'", `'\''`) + "'"
		}
	}
	return strings.Join(words, " ")
}

func shell(path string) bool {
	return slices.Contains([]string{"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"}, filepath.Base(path))
}

// runs reports whether the options of a shell end in -c, alone or joined to
// others as in -ec, and hold nothing but options and the values of -o.
func runs(options []string) bool {
	last := options[len(options)-1]
	if !strings.HasPrefix(last, "-") || strings.HasPrefix(last, "--") || !strings.HasSuffix(last, "c") {
		return false
	}
	for i, o := range options {
		value := i > 0 && strings.HasPrefix(options[i-1], "-") && strings.HasSuffix(options[i-1], "o")
		if !strings.HasPrefix(o, "-") && !value {
			return false
		}
	}
	return true
}

// strip takes out what no step gets.
func strip(spec *specs.Spec) {
	dropRaw(spec.Process.Capabilities)
	spec.Mounts = slices.DeleteFunc(spec.Mounts, func(m specs.Mount) bool { return m.Destination == tracingSocket })
	spec.Process.Env = slices.DeleteFunc(spec.Process.Env, func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return name == "TRACEPARENT" || name == "TRACESTATE" || slices.Contains(tracingEnv(), e)
	})
}

func dropRaw(c *specs.LinuxCapabilities) {
	if c == nil {
		return
	}
	for _, set := range []*[]string{&c.Bounding, &c.Effective, &c.Inheritable, &c.Permitted, &c.Ambient} {
		*set = slices.DeleteFunc(*set, func(name string) bool { return name == "CAP_NET_RAW" })
	}
}

// tracingSocket is where BuildKit mounts its trace collector into steps.
const tracingSocket = "/dev/otel-grpc.sock"

// tracingEnv is what BuildKit adds to point at it; a build's own values stay.
func tracingEnv() []string {
	return []string{
		"OTEL_TRACES_EXPORTER=otlp",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=unix://" + tracingSocket,
		"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc",
	}
}

// RefusedError is a configuration that would not be caged.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "refusing to run this step: " + e.Reason }

func refusef(format string, args ...any) error {
	return &RefusedError{fmt.Sprintf(format, args...)}
}

// check refuses what BuildKit only does on entitlements or on a mistake of
// ours, and returns the step's network namespace, "" for an empty one.
func check(spec *specs.Spec, state string) (netns string, err error) {
	switch {
	case spec.Process == nil || spec.Linux == nil:
		return "", refusef("its configuration is not complete")
	case spec.Hooks != nil && !emptyHooks(spec.Hooks):
		return "", refusef("it brings hooks, which run outside of it")
	case spec.Linux.CgroupsPath != "" && !ownCgroup(filepath.Dir(spec.Linux.CgroupsPath)):
		return "", refusef("it asks for the cgroup %q", spec.Linux.CgroupsPath)
	}
	if netns, err = namespaces(spec.Linux.Namespaces, state); err != nil {
		return "", err
	}
	return netns, errors.Join(capabilities(spec.Process.Capabilities), mounts(spec.Mounts, state))
}

// cgroupParent is where BuildKit puts steps that don't ask for another place; a
// frontend may ask.
const cgroupParent = "/buildkit"

// ownCgroup also knows where the front door has put the steps of a build that
// has them for itself.
func ownCgroup(parent string) bool {
	mark, apart := strings.CutPrefix(strings.TrimSuffix(parent, cgroupParent), "/"+contract.ApartPrefix)
	return parent == cgroupParent ||
		strings.HasSuffix(parent, cgroupParent) && apart && mark != "" && strings.Trim(mark, "0123456789abcdef") == ""
}

func emptyHooks(h *specs.Hooks) bool {
	b, err := json.Marshal(h)
	return err == nil && string(b) == "{}"
}

func namespaces(list []specs.LinuxNamespace, state string) (netns string, err error) {
	have := make(map[specs.LinuxNamespaceType]bool)
	for _, ns := range list {
		have[ns.Type] = true
		switch {
		case ns.Path == "":
		case ns.Type != specs.NetworkNamespace:
			return "", refusef("it joins a foreign %s namespace", ns.Type)
		case !below(ns.Path, filepath.Join(state, "net", "cni")):
			return "", refusef("its network namespace is not one of the cage's")
		default:
			netns = ns.Path
		}
	}
	for _, typ := range []specs.LinuxNamespaceType{
		specs.NetworkNamespace, specs.PIDNamespace, specs.MountNamespace, specs.IPCNamespace, specs.UTSNamespace,
	} {
		if !have[typ] {
			return "", refusef("it has no %s namespace of its own (network.host and security.insecure are not available in a cage)", typ)
		}
	}
	return netns, nil
}

// allowedCaps are the capabilities that BuildKit gives a step by default.
func allowedCaps() []string {
	return []string{
		"CAP_AUDIT_WRITE", "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_MKNOD",
		"CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SETFCAP", "CAP_SETGID", "CAP_SETPCAP", "CAP_SETUID", "CAP_SYS_CHROOT",
	}
}

func capabilities(c *specs.LinuxCapabilities) error {
	if c == nil {
		return nil
	}
	allowed := allowedCaps()
	for _, name := range slices.Concat(c.Bounding, c.Effective, c.Inheritable, c.Permitted, c.Ambient) {
		if !slices.Contains(allowed, name) {
			return refusef("it asks for %s (security.insecure is not available in a cage)", name)
		}
	}
	return nil
}

// mounts refuses bind mounts from anywhere but BuildKit's state and its
// temporary files: nothing else of the cage is a step's business.
func mounts(list []specs.Mount, state string) error {
	for _, m := range list {
		bind := m.Type == "bind" || slices.Contains(m.Options, "bind") || slices.Contains(m.Options, "rbind")
		if bind && m.Destination != tracingSocket && !below(m.Source, state) && !below(m.Source, os.TempDir()) {
			return refusef("it mounts %q of the cage", m.Source)
		}
	}
	return nil
}

func below(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsAbs(path) && rel != "." && rel != ".." && !strings.HasPrefix(rel, "../")
}
