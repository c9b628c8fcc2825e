package cli

import (
	"cmp"
	"runtime"

	"github.com/buildcage/buildcage/internal/dockerfile"
	"github.com/buildcage/buildcage/internal/runner"
)

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
	var ids, names []string
	at := make(map[string]int)
	for _, r := range result.Records {
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
	lines := make(map[string]int)
	for i, line := range places.Of(names) {
		lines[ids[i]] = line
	}
	return lines
}
