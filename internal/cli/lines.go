package cli

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"

	"github.com/buildcage/buildcage/internal/dockerfile"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/runner"
)

// places tells the cage where the steps stand in the Dockerfile, when the policy
// selects by that. A policy that nobody can follow is an error: its entries
// would never match.
func (b *build) places() error {
	spec := &b.policy.spec
	if !spec.SelectsLines() {
		return nil
	}
	if b.input.Dockerfile == nil {
		return usagef("select with run: or stage:, or build from a directory",
			"%s selects steps by lines, and only BuildKit has the Dockerfile of this build", b.policy.path)
	}
	opt, err := b.reading(runtime.GOARCH)
	if err != nil {
		return nil // what buildx can't read, it reports
	}
	for _, platform := range opt.Wanted() {
		graph, err := dockerfile.Parse(b.input.Dockerfile, opt, platform)
		if err != nil {
			return nil // BuildKit reports a broken Dockerfile, with an excerpt
		}
		for _, run := range graph.Runs() {
			if place := policy.PlaceOf(run.Line, run.Stage, run.Command); !slices.Contains(spec.Places, place) {
				spec.Places = append(spec.Places, place)
			}
		}
	}
	compiled, err := policy.Compile(*spec)
	if err != nil {
		return err
	}
	b.policy.compiled = compiled
	for _, e := range compiled.Idle() {
		b.warn(fmt.Errorf("%s: no RUN of %s begins in lines: %s", e.Pos, b.input.Name, e.Lines))
	}
	return nil
}

// lines are the Dockerfile lines of the steps, by id. All of them are unknown
// where only BuildKit has the Dockerfile.
func (b *build) lines(result *runner.Result) map[string]int {
	if b.input.Dockerfile == nil {
		return nil
	}
	opt, err := b.reading(cmp.Or(result.Engine.Arch, runtime.GOARCH))
	if err != nil {
		return nil
	}
	// The frontend sees the images that the engine lent as contexts too.
	opt.Contexts = append(opt.Contexts, b.lent...)
	places, err := dockerfile.NewLines(b.input.Dockerfile, opt)
	if err != nil {
		return nil
	}
	ids, names := namesOf(result.Records)
	lines := make(map[string]int)
	for i, line := range places.Of(names) {
		lines[ids[i]] = line
	}
	return lines
}

// namesOf are the names that BuildKit gives to the steps, and their ids.
func namesOf(records []event.Record) (ids, names []string) {
	at := make(map[string]int)
	for _, r := range records {
		if r.Step == nil || r.Step.Name == "" {
			continue
		}
		i, known := at[r.Step.ID]
		if !known {
			i = len(ids)
			at[r.Step.ID] = i
			ids, names = append(ids, r.Step.ID), append(names, "")
		}
		names[i] = r.Step.Name
	}
	return ids, names
}
