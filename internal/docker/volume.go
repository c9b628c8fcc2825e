package docker

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
)

// Volumes are the state volumes of this program that no container has, by name.
func (e *Engine) Volumes(ctx context.Context) ([]string, error) {
	list, err := e.Client.VolumeList(ctx, client.VolumeListOptions{
		Filters: make(client.Filters).Add("label", contract.Label+"=1").Add("dangling", "true"),
	})
	if err != nil {
		return nil, fmt.Errorf("listing state volumes: %w", err)
	}
	var names []string
	for _, v := range list.Items {
		if strings.HasPrefix(v.Name, e.prefix()+"-state-") {
			names = append(names, v.Name)
		}
	}
	return names, nil
}

// RemoveVolume removes a state volume; one that is not there is fine.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	_, err := e.Client.VolumeRemove(ctx, name, client.VolumeRemoveOptions{})
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("removing volume %s: %w", name, err)
	}
	return nil
}

// Log writes the diagnostics of a cage that stays, made printable.
func (e *Engine) Log(ctx context.Context, s *Staying, follow bool, w io.Writer) error {
	logs, err := e.Client.ContainerLogs(ctx, s.ID, client.ContainerLogsOptions{ShowStdout: true, ShowStderr: true, Follow: follow})
	if err != nil {
		return fmt.Errorf("reading the diagnostics of cage %q: %w", s.Name, err)
	}
	defer logs.Close()
	clean := inert{w}
	if _, err := stdcopy.StdCopy(clean, clean, logs); err != nil && ctx.Err() == nil {
		return fmt.Errorf("reading the diagnostics of cage %q: %w", s.Name, err)
	}
	return nil
}

// inert writes only what does nothing to a terminal.
type inert struct{ w io.Writer }

func (i inert) Write(p []byte) (int, error) {
	if _, err := io.WriteString(i.w, printable(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
