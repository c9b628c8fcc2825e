package supervise

import (
	"strings"
	"sync"

	"github.com/buildcage/buildcage/internal/contract"
)

// apart keeps builds under different policies from having steps in common.
// BuildKit runs a step once for all that want it at the same time; such a step
// could do only what all of them allow, so a policy would reach into a build
// that it does not belong to. A build that begins while one under another policy
// goes on is therefore given a mark, which is part of what its steps are. Two
// unmarked builds that go on at the same time have the same policy, and so have
// two with the same mark. The zero value is ready.
type apart struct {
	mu    sync.Mutex
	going map[string]kept
}

// kept is a build that goes on.
type kept struct {
	policy string // digest
	mark   string
}

// enter takes a build in. The mark is the same whenever the policy is, so that
// the cache answers the next time.
func (a *apart) enter(ref, policy string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := kept{policy: policy}
	for _, other := range a.going {
		if other.policy != policy {
			one.mark = markOf(policy)
		}
	}
	if a.going == nil {
		a.going = make(map[string]kept)
	}
	if _, known := a.going[ref]; !known {
		a.going[ref] = one
	}
}

func (a *apart) mark(ref string) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.going[ref].mark
}

func (a *apart) leave(ref string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.going, ref)
}

// markOf is as much of a policy's digest as tells it from others.
func markOf(policy string) string {
	_, hex, _ := strings.Cut(policy, ":")
	return contract.ApartPrefix + hex[:min(len(hex), 32)]
}
