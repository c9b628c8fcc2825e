package check

import (
	"fmt"

	"github.com/buildcage/buildcage/internal/lock"
	"github.com/buildcage/buildcage/internal/policy"
)

// lockRules wants every destination of the lock to be allowed, and every step
// of it to be in the Dockerfile.
func (c *checker) lockRules(file *lock.Lock) {
	commands := c.commands()
	for _, s := range file.Steps {
		step, ok := s.PolicyStep()
		if !ok {
			continue
		}
		if commands != nil && !commands[step.Command] {
			c.add("lock-step", s.Pos, "", fmt.Sprintf("no RUN of %s has the command %q", c.in.Dockerfile.Name, s.Run), "write the lock again: buildcage audit --lock")
		}
		scope := c.policy.For(step)
		for _, d := range s.Reached {
			if !reachable(scope, d) {
				c.add("lock-refused", d.Pos, "", fmt.Sprintf("the rules refuse %s (%s), which the lock says that %q reaches", d, d.Protocol, s.Run),
					"allow it, or write the lock again: buildcage audit --lock")
			}
		}
	}
}

func reachable(scope *policy.Scope, d lock.Destination) bool {
	for _, t := range d.Targets() {
		if scope.Match(t) != nil {
			return true
		}
	}
	return false
}

// commands are those of the Dockerfile; nil where they are not all known.
func (c *checker) commands() map[string]bool {
	if c.graph == nil {
		return nil
	}
	commands := map[string]bool{}
	for _, r := range c.graph.Runs() {
		if r.Command == "" {
			return nil
		}
		commands[r.Command] = true
	}
	return commands
}
