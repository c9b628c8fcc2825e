package docker

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
)

// spec is the container that a cage runs in. Everything that a cage may do to
// its engine's machine is decided here.
//
//   - Three capabilities on top of Docker's default set, and no more: a cage
//     is never privileged. SYS_ADMIN mounts, NET_ADMIN builds the firewall,
//     SYS_PTRACE lets runc open a step's mount namespace.
//   - AppArmor's default profile forbids mount, and SELinux' container type
//     forbids overlay, so both are lifted where the engine has them.
//   - The log driver is none: caged's diagnostics arrive on the attached
//     stream, they hold names from hostile traffic, and a build must not fill
//     the engine's disk.
//   - No nofile limit is asked for: an engine without CAP_SYS_RESOURCE can't
//     start a container with more than its own hard limit, and Go programs
//     raise the soft one to the hard one by themselves.
//   - No pids limit: BuildKit runs whole builds in here, and its steps have
//     cgroups of their own.
func (e *Engine) spec(c Config, facts Facts, slot int) client.ContainerCreateOptions {
	init, unlimited := false, int64(-1)
	labels := map[string]string{
		contract.Label:        "1",
		contract.LabelRun:     c.Boot.RunID,
		contract.LabelSlot:    strconv.Itoa(slot),
		contract.LabelVersion: c.Boot.CLI,
	}
	return client.ContainerCreateOptions{
		Name: e.containerName(slot),
		Config: &container.Config{
			Image:        c.Image,
			Labels:       labels,
			AttachStdin:  true,
			AttachStdout: true,
			AttachStderr: true,
			OpenStdin:    true,
			StdinOnce:    true,
		},
		HostConfig: &container.HostConfig{
			AutoRemove:     true,
			CapAdd:         []string{"NET_ADMIN", "SYS_ADMIN", "SYS_PTRACE"},
			CgroupnsMode:   container.CgroupnsModePrivate,
			Init:           &init,
			LogConfig:      container.LogConfig{Type: "none"},
			Mounts:         []mount.Mount{stateVolume(e.VolumeName(slot), contract.LabelSlot, strconv.Itoa(slot))},
			NetworkMode:    container.NetworkMode(c.Network),
			ReadonlyRootfs: true,
			Resources:      container.Resources{PidsLimit: &unlimited},
			RestartPolicy:  container.RestartPolicy{Name: container.RestartPolicyDisabled},
			SecurityOpt:    securityOptions(facts),
			Tmpfs: map[string]string{
				"/run":         "mode=755",
				"/tmp":         "exec,mode=1777",
				"/var/lib/cni": "mode=700",
			},
		},
	}
}

func securityOptions(facts Facts) []string {
	options := []string{"seccomp=" + seccompProfile}
	if facts.AppArmor {
		options = append(options, "apparmor=unconfined")
	}
	if facts.SELinux {
		options = append(options, "label=disable")
	}
	return options
}

// stateVolume outlives the cage: it is BuildKit's cache for this slot or name.
func stateVolume(name, label, value string) mount.Mount {
	return mount.Mount{
		Type:   mount.TypeVolume,
		Source: name,
		Target: contract.StateDir,
		VolumeOptions: &mount.VolumeOptions{
			NoCopy: true,
			Labels: map[string]string{contract.Label: "1", label: value},
		},
	}
}

func (e *Engine) containerName(slot int) string { return fmt.Sprintf("%s-%d", e.prefix(), slot) }

// IsSlotVolume reports whether a volume is that of a temporary cage.
func (e *Engine) IsSlotVolume(name string) bool {
	number, ok := strings.CutPrefix(name, e.prefix()+"-state-")
	return ok && number != "" && strings.Trim(number, "0123456789") == ""
}

// VolumeName is the state volume of a slot.
func (e *Engine) VolumeName(slot int) string { return fmt.Sprintf("%s-state-%d", e.prefix(), slot) }
