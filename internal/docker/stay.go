package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
)

// Stay is what a cage that stays has beyond a temporary one.
type Stay struct {
	Name   string
	Mode   string // of the cage's own policy
	Digest string // of that
}

const (
	// restarts is how often the engine starts a cage again that fails, before it
	// has run for ten seconds.
	restarts = 5
	// logSize and logFiles bound the diagnostics of a cage that stays: they hold
	// names from hostile traffic.
	logSize  = "2m"
	logFiles = "2"
)

// StayName is the container of a cage that stays. Slots have numbers.
func (e *Engine) StayName(name string) string { return e.prefix() + "-" + name }

// StayVolume is its state volume.
func (e *Engine) StayVolume(name string) string { return e.prefix() + "-state-" + name }

// staySpec is the container of a cage that stays: the one of a temporary cage,
// but the engine starts it again when it fails and after a restart of its own,
// so its configuration is a file and its diagnostics are kept, bounded.
func (e *Engine) staySpec(c Config, facts Facts, s Stay) client.ContainerCreateOptions {
	o := e.spec(c, facts, 0)
	o.Name = e.StayName(s.Name)
	delete(o.Config.Labels, contract.LabelSlot)
	o.Config.Labels[contract.LabelName] = s.Name
	o.Config.Labels[contract.LabelMode] = s.Mode
	o.Config.Labels[contract.LabelPolicy] = s.Digest
	o.Config.Cmd = []string{contract.CommandStay}
	o.Config.AttachStdin, o.Config.OpenStdin, o.Config.StdinOnce = false, false, false
	o.HostConfig.AutoRemove = false
	o.HostConfig.Mounts = []mount.Mount{stateVolume(e.StayVolume(s.Name), contract.LabelName, s.Name)}
	o.HostConfig.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: restarts}
	o.HostConfig.LogConfig = container.LogConfig{Type: "json-file", Config: map[string]string{"max-size": logSize, "max-file": logFiles}}
	return o
}

// StartStay starts a cage that outlives this process and waits until it is
// ready. Nothing but its volume is left behind when it fails.
func (e *Engine) StartStay(ctx context.Context, facts Facts, c Config, s Stay) (_ *Cage, err error) {
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), requestTimeout)
	defer cancel()
	created, err := e.Client.ContainerCreate(short, e.staySpec(c, facts, s))
	switch {
	case errdefs.IsConflict(err):
		return nil, &Error{Kind: NameTaken, Text: fmt.Sprintf("there is a cage %q already", s.Name),
			Tip: fmt.Sprintf("buildcage ls shows it, buildcage down %s removes it", s.Name)}
	case errdefs.IsNotFound(err):
		return nil, &ErrImageGone{Err: err}
	case err != nil:
		return nil, Classify("creating the cage container", err)
	}
	cage := &Cage{ID: created.ID, Name: e.StayName(s.Name), engine: e, done: make(chan struct{})}
	failed := true
	defer func() {
		if failed {
			err = errors.Join(err, cage.Remove(context.WithoutCancel(ctx)))
		}
	}()
	if err := cage.leaveBoot(ctx, c.Boot); err != nil {
		return nil, err
	}
	if err := cage.boot(ctx, c); err != nil {
		return nil, err
	}
	failed = false
	cage.attach.close() // it goes on without us
	cage.Close()
	return cage, nil
}

// leaveBoot puts the boot configuration on the state volume, where the cage
// finds it whenever it starts. No environment, no label and no argument has it.
func (c *Cage) leaveBoot(ctx context.Context, boot contract.Boot) error {
	text, err := json.Marshal(boot)
	if err != nil {
		return fmt.Errorf("encoding the boot configuration: %w", err)
	}
	return c.engine.putBoot(ctx, c.ID, append(text, '\n'))
}

// putBoot replaces the boot configuration.
func (e *Engine) putBoot(ctx context.Context, id string, text []byte) error {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	header := &tar.Header{Name: path.Base(contract.BootFile), Mode: 0o600, Size: int64(len(text)), ModTime: time.Now()}
	if err := w.WriteHeader(header); err != nil {
		return fmt.Errorf("packing the boot configuration: %w", err)
	}
	if _, err := w.Write(text); err != nil {
		return fmt.Errorf("packing the boot configuration: %w", err)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("packing the boot configuration: %w", err)
	}
	if _, err := e.Client.CopyToContainer(ctx, id, client.CopyToContainerOptions{
		DestinationPath: path.Dir(contract.BootFile), Content: &archive,
	}); err != nil {
		return fmt.Errorf("copying the boot configuration into the cage: %w", err)
	}
	return nil
}

// Staying is a cage that stays, as the engine knows it.
type Staying struct {
	Stay
	ID       string
	Image    string
	Version  string // of the program that made it
	State    string // running, exited, restarting, created, …
	ExitCode int
	Created  time.Time
	Started  time.Time
	Restarts int
}

// Running says that it can build.
func (s *Staying) Running() bool { return s.State == string(container.StateRunning) }

// Stays lists the cages that stay, by name.
func (e *Engine) Stays(ctx context.Context) ([]Staying, error) {
	list, err := e.Client.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", contract.LabelName),
	})
	if err != nil {
		return nil, e.failed(ctx, "listing cages", err)
	}
	var all []Staying
	for _, c := range list.Items {
		name := c.Labels[contract.LabelName]
		if !slices.Contains(c.Names, "/"+e.StayName(name)) {
			continue
		}
		one, err := e.FindStay(ctx, name)
		if err != nil {
			return nil, err
		}
		if one != nil {
			all = append(all, *one)
		}
	}
	slices.SortFunc(all, func(a, b Staying) int { return strings.Compare(a.Name, b.Name) })
	return all, nil
}

// FindStay returns the cage of that name, nil when there is none.
func (e *Engine) FindStay(ctx context.Context, name string) (*Staying, error) {
	result, err := e.Client.ContainerInspect(ctx, e.StayName(name), client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) || errdefs.IsInvalidArgument(err) {
		return nil, nil
	}
	if err != nil {
		return nil, e.failed(ctx, fmt.Sprintf("looking for cage %q", name), err)
	}
	c := result.Container
	if c.Config == nil || c.State == nil || c.Config.Labels[contract.LabelName] != name {
		return nil, nil
	}
	s := &Staying{
		Stay: Stay{Name: name, Mode: c.Config.Labels[contract.LabelMode], Digest: c.Config.Labels[contract.LabelPolicy]},
		ID:   c.ID, Image: c.Image, Version: c.Config.Labels[contract.LabelVersion],
		State: string(c.State.Status), ExitCode: c.State.ExitCode, Restarts: c.RestartCount,
	}
	s.Created, _ = time.Parse(time.RFC3339Nano, c.Created)
	s.Started, _ = time.Parse(time.RFC3339Nano, c.State.StartedAt)
	return s, nil
}

// Open is a cage that stays, for execs and to hear of its end. Close lets it be.
func (e *Engine) Open(ctx context.Context, s *Staying) *Cage {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	c := &Cage{ID: s.ID, Name: e.StayName(s.Name), engine: e, done: make(chan struct{}), cancel: cancel}
	wait := e.Client.ContainerWait(life, s.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNotRunning})
	go func() {
		defer close(c.done)
		c.exit = Exit{Code: -1}
		select {
		case result := <-wait.Result:
			c.exit.Code = int(result.StatusCode)
		case c.exit.Err = <-wait.Error:
		}
	}()
	return c
}

// Close stops listening for the end of the cage, and ends its commands.
func (c *Cage) Close() {
	c.hangUp()
	if c.cancel != nil {
		c.cancel()
	}
}

// RemoveStay ends a cage that stays. Its volume stays, but for the boot
// configuration, which may hold the password of a proxy.
func (e *Engine) RemoveStay(ctx context.Context, s *Staying) error {
	err := e.putBoot(ctx, s.ID, nil)
	if errdefs.IsNotFound(err) {
		err = nil // somebody else removed it
	}
	return errors.Join(err, e.removeContainer(ctx, s.ID))
}
