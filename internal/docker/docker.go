// Package docker is the Engine API as the runner needs it: is there a usable
// engine, which addresses are its own, start a cage, run the cage's own
// commands in it, remove what is left. It copies configuration in and execs
// out; it never binds a host path and never publishes a port.
package docker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"
)

// MinAPIVersion is the oldest API that is supported: Docker Engine 20.10.
const MinAPIVersion = "1.41"

// DefaultPrefix names containers (buildcage-0) and volumes (buildcage-state-0).
const DefaultPrefix = "buildcage"

// Engine is one Docker engine.
type Engine struct {
	// Client talks to it. It is used as it is: contexts, ssh and TLS are the
	// business of whoever made it.
	Client client.APIClient
	// Prefix of container and volume names; empty: DefaultPrefix. Engines
	// with different prefixes neither meet in a slot nor sweep each other.
	Prefix string
}

func (e *Engine) prefix() string {
	if e.Prefix == "" {
		return DefaultPrefix
	}
	return e.Prefix
}

// Facts are what a cage's configuration depends on.
type Facts struct {
	Version    string // of the engine
	APIVersion string
	Arch       string // as Go names it
	AppArmor   bool
	SELinux    bool
	// Containerd: the engine keeps images in containerd, where an image's id
	// is the digest of its manifest and not of its configuration.
	Containerd bool
}

// Check asks the engine who it is and says whether a cage for arch (a GOARCH;
// empty: any) can run there. Errors are of type *Error.
func (e *Engine) Check(ctx context.Context, arch string) (Facts, error) {
	ping, err := e.Client.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true})
	if ping.APIVersion != "" && versions.LessThan(ping.APIVersion, MinAPIVersion) {
		return Facts{}, tooOld(ping.APIVersion)
	}
	if err != nil {
		return Facts{}, e.unreachable(ctx, err)
	}
	if ping.OSType != "" && ping.OSType != "linux" {
		return Facts{}, wrongOS(ping.OSType)
	}
	result, err := e.Client.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Facts{}, e.unreachable(ctx, err)
	}
	info := result.Info
	facts := Facts{
		Version:    info.ServerVersion,
		APIVersion: ping.APIVersion,
		Arch:       goArch(info.Architecture),
		AppArmor:   hasSecurity(info.SecurityOptions, "apparmor"),
		SELinux:    hasSecurity(info.SecurityOptions, "selinux"),
		Containerd: slices.ContainsFunc(info.DriverStatus, func(kv [2]string) bool {
			return kv[0] == "driver-type" && strings.HasPrefix(kv[1], "io.containerd.snapshotter")
		}),
	}
	if arch != "" && facts.Arch != arch {
		return facts, wrongArch(facts.Arch, arch)
	}
	return facts, nil
}

// hasSecurity looks for "name=NAME" or "name=NAME,…", and for the bare name.
func hasSecurity(options []string, name string) bool {
	return slices.ContainsFunc(options, func(o string) bool {
		first, _, _ := strings.Cut(o, ",")
		return strings.TrimPrefix(first, "name=") == name
	})
}

// goArch translates uname's machine names; engines report either kind.
func goArch(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	case "armv7l", "armv6l":
		return "arm"
	case "i686", "i386":
		return "386"
	}
	return machine
}

func (e *Engine) host() string {
	if h := e.Client.DaemonHost(); h != "" {
		return h
	}
	return fmt.Sprintf("%s (the default)", client.DefaultDockerHost)
}
