package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/runner"
)

// again runs the build once more when the cache answered for steps of which
// nobody knows that today's policy allows what they did or, in an audit, what
// they do. The second run builds them afresh, and counts instead of the first.
func (b *build) again(ctx context.Context, result *runner.Result, run func(context.Context) *runner.Result) (*runner.Result, error) {
	steps := b.unproven(result)
	if len(steps) == 0 {
		return result, nil
	}
	if b.contextPath == "-" {
		b.note(fmt.Sprintf("%s from the cache can't be vouched for, and standard input can't be read again: build with --no-cache", count(len(steps))))
		return result, nil
	}
	flag, values := b.afresh(steps)
	for _, v := range values {
		if err := b.buildx.Flags().Set(flag, v); err != nil {
			return nil, fmt.Errorf("setting --%s: %w", flag, err)
		}
	}
	why, unless := b.why(steps)
	b.note(fmt.Sprintf("%s from the cache %s: building again with --%s=%s (%s)", count(len(steps)), why, flag, strings.Join(values, ","), unless))
	return run(ctx), nil
}

// why says why steps from the cache are built again, and what would take them.
func (b *build) why(steps []*event.Step) (why, unless string) {
	if b.mode == policy.Audit {
		return "were not seen to the end", "--cache does not"
	}
	for _, s := range steps {
		if s.Evidence != nil && s.Evidence.Verdict == event.EvidenceViolates {
			return "once did what the policy refuses", "--strict-cache=false does not; buildcage prune --all forgets it, and the cache"
		}
	}
	return "can't be vouched for", "--strict-cache=false does not"
}

func count(steps int) string {
	if steps == 1 {
		return "1 step"
	}
	return fmt.Sprintf("%d steps", steps)
}

// unproven are the cached steps that a strict build does not take, or of which
// an audit learns nothing.
func (b *build) unproven(result *runner.Result) (steps []*event.Step) {
	if !b.doubts() || !result.Complete || result.Interrupted || result.BuildErr != nil || result.CageErr != nil || b.buildx.Calls() {
		return nil
	}
	for _, r := range result.Records {
		s := r.Step
		if s == nil || !s.Cached {
			continue
		}
		known := s.Evidence != nil && s.Evidence.Verdict != event.EvidenceMissing
		if !known || b.mode == policy.Restrict && s.Evidence.Verdict != event.EvidenceClean {
			steps = append(steps, s)
		}
	}
	return steps
}

// doubts reports whether the cache's word is not enough. Who speaks of the
// cache to an audit has decided.
func (b *build) doubts() bool {
	if b.mode == policy.Audit {
		return !b.flags.cache && !b.buildx.CacheFlags()
	}
	return b.flags.strictCache
}

// named reports whether --no-cache-filter takes a stage: not the names that
// BuildKit gives to stages without one.
func named(stage string) bool {
	return strings.Trim(strings.TrimPrefix(stage, "stage-"), "0123456789") != "" && !strings.ContainsAny(stage, ", ")
}

// afresh is the narrowest flag that makes the steps run in a second build. One
// that had --no-cache got a result that another build made a moment ago.
func (b *build) afresh(steps []*event.Step) (flag string, values []string) {
	if b.buildx.Flags().Lookup("no-cache-filter") == nil { // bake, which reads its own --no-cache only once
		return "set", []string{"*.no-cache=true"}
	}
	if b.buildx.On("no-cache") {
		return "no-cache", []string{"true"}
	}
	for _, s := range steps {
		if !named(s.Stage) {
			return "no-cache", []string{"true"}
		}
		if !slices.Contains(values, s.Stage) {
			values = append(values, s.Stage)
		}
	}
	return "no-cache-filter", values
}
