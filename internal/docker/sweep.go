package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
)

// SweepGrace is the age from which a cage container that does not run is
// nobody's. Creating and starting take less than a second.
const SweepGrace = 10 * time.Minute

// Sweep removes what dead runs left: any cage whose owner is provably gone,
// and cages that do not run and are older than SweepGrace. It never touches a
// running cage whose owner may live, and no volume. ownerGone judges a run id;
// it must answer false when it does not know.
func (e *Engine) Sweep(ctx context.Context, ownerGone func(run string) bool) error {
	list, err := e.Client.ContainerList(ctx, client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("label", contract.Label+"=1"),
	})
	if err != nil {
		return fmt.Errorf("listing cage containers: %w", err)
	}
	var problems []error
	for _, c := range list.Items {
		if e.owns(c.Names) && abandoned(c, ownerGone) {
			problems = append(problems, e.removeContainer(ctx, c.ID))
		}
	}
	return errors.Join(problems...)
}

// owns recognises a slot's name; the engine puts a slash before it.
func (e *Engine) owns(names []string) bool {
	for _, name := range names {
		rest, ok := strings.CutPrefix(strings.TrimPrefix(name, "/"), e.prefix()+"-")
		if ok && rest != "" && strings.Trim(rest, "0123456789") == "" {
			return true
		}
	}
	return false
}

func abandoned(c container.Summary, ownerGone func(string) bool) bool {
	switch c.State {
	case container.StateRemoving:
		return false // it is going
	case container.StateCreated, container.StateExited, container.StateDead:
		if time.Since(time.Unix(c.Created, 0)) > SweepGrace {
			return true
		}
	}
	run := c.Labels[contract.LabelRun]
	return run != "" && ownerGone(run)
}
