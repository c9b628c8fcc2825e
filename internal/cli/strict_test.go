package cli

import (
	"errors"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/runner"

	"github.com/docker/cli/cli/command"
)

func TestAfresh(t *testing.T) {
	for stages, want := range map[string]string{
		"deps":         "no-cache-filter=deps",
		"deps,deps,go": "no-cache-filter=deps,go",
		"deps,":        "no-cache=true",
		"stage-1":      "no-cache=true",
		"stage-x":      "no-cache-filter=stage-x",
	} {
		var steps []*event.Step
		for stage := range strings.SplitSeq(stages, ",") {
			steps = append(steps, &event.Step{Stage: stage})
		}
		flag, values := afresh(steps)
		if got := flag + "=" + strings.Join(values, ","); got != want {
			t.Errorf("stages %q: %s, want %s", stages, got, want)
		}
	}
}

func TestUnproven(t *testing.T) {
	docker, err := command.NewDockerCli()
	if err != nil {
		t.Fatal(err)
	}
	x, err := buildx.New(docker)
	if err != nil {
		t.Fatal(err)
	}
	cached := func(v event.EvidenceVerdict) event.Record {
		return event.Record{Step: &event.Step{Cached: true, Evidence: &event.Evidence{Verdict: v}}}
	}
	records := []event.Record{
		{Step: &event.Step{ID: "ran"}}, cached(event.EvidenceClean), cached(event.EvidenceMissing),
		cached(event.EvidenceViolates), {Step: &event.Step{Cached: true}},
	}
	for name, tc := range map[string]struct {
		change func(*build, *runner.Result)
		want   int
	}{
		"strict":      {func(*build, *runner.Result) {}, 3},
		"not strict":  {func(b *build, _ *runner.Result) { b.flags.strictCache = false }, 0},
		"audit":       {func(b *build, _ *runner.Result) { b.mode = policy.Audit }, 2},
		"audit cache": {func(b *build, _ *runner.Result) { b.mode, b.flags.cache = policy.Audit, true }, 0},
		"failed":      {func(_ *build, r *runner.Result) { r.BuildErr = errors.New("x") }, 0},
		"incomplete":  {func(_ *build, r *runner.Result) { r.Complete = false }, 0},
		"interrupted": {func(_ *build, r *runner.Result) { r.Interrupted = true }, 0},
	} {
		b := &build{mode: policy.Restrict, buildx: x}
		b.flags.strictCache = true
		r := &runner.Result{Complete: true, Records: records}
		tc.change(b, r)
		if got := len(b.unproven(r)); got != tc.want {
			t.Errorf("%s: %d steps, want %d", name, got, tc.want)
		}
	}
}
