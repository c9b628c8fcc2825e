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

// builds returns a build and a bake, as their flags make them.
func builds(t *testing.T) (one, bake *build) {
	t.Helper()
	docker, err := command.NewDockerCli()
	if err != nil {
		t.Fatal(err)
	}
	x, err := buildx.New(docker)
	if err != nil {
		t.Fatal(err)
	}
	y, err := buildx.NewBake(docker)
	if err != nil {
		t.Fatal(err)
	}
	return &build{mode: policy.Restrict, buildx: x}, &build{mode: policy.Restrict, buildx: y}
}

func TestAfresh(t *testing.T) {
	one, bake := builds(t)
	check := func(b *build, stages, want string) {
		t.Helper()
		var steps []*event.Step
		for stage := range strings.SplitSeq(stages, ",") {
			steps = append(steps, &event.Step{Stage: stage})
		}
		flag, values := b.afresh(steps)
		if got := flag + "=" + strings.Join(values, ","); got != want {
			t.Errorf("stages %q: %s, want %s", stages, got, want)
		}
	}
	for stages, want := range map[string]string{
		"deps":         "no-cache-filter=deps",
		"deps,deps,go": "no-cache-filter=deps,go",
		"deps,":        "no-cache=true",
		"stage-1":      "no-cache=true",
		"stage-x":      "no-cache-filter=stage-x",
	} {
		check(one, stages, want)
		check(bake, stages, "set=*.no-cache=true")
	}
	if err := one.buildx.Flags().Set("no-cache", "true"); err != nil {
		t.Fatal(err)
	}
	check(one, "deps", "no-cache=true") // the filter would be of no use
}

func TestWhy(t *testing.T) {
	one, _ := builds(t)
	evidence := func(v event.EvidenceVerdict) *event.Step { return &event.Step{Evidence: &event.Evidence{Verdict: v}} }
	unknown := []*event.Step{{}, evidence(event.EvidenceMissing)}
	check := func(steps []*event.Step, why, unless string) {
		t.Helper()
		if w, u := one.why(steps); !strings.Contains(w, why) || !strings.Contains(u, unless) {
			t.Errorf("%q, %q: want %q and %q", w, u, why, unless)
		}
	}
	check(unknown, "vouched", "--strict-cache=false")
	check(append(unknown, evidence(event.EvidenceViolates)), "once did", "prune --all")
	one.mode = policy.Audit
	check(unknown, "not seen", "--cache does not")
}

func TestUnproven(t *testing.T) {
	one, _ := builds(t)
	x := one.buildx
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
