package check

import (
	"fmt"
	"runtime"

	"github.com/containerd/platforms"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/buildcage/buildcage/internal/dockerfile"
	"github.com/buildcage/buildcage/internal/explain"
	"github.com/buildcage/buildcage/internal/policy"
)

// entries finds entries of steps: that are there twice.
func (c *checker) entries() {
	seen := map[string]policy.StepSpec{}
	for _, s := range c.cfg.Spec.Steps {
		selector := explain.Selector(s)
		if first, ok := seen[selector]; ok {
			c.add("duplicate-entry", s.Pos, "", "the entry at "+first.Pos+" has the same selectors and decides", "put both into one entry")
			continue
		}
		seen[selector] = s
	}
}

// read reads the Dockerfile; nil after an error, or without one.
func (c *checker) read() *dockerfile.Graph {
	if c.in.Dockerfile.Data == nil {
		return nil
	}
	native := platforms.Normalize(ocispecs.Platform{OS: "linux", Architecture: runtime.GOARCH})
	g, err := dockerfile.Parse(c.in.Dockerfile.Data, dockerfile.Options{Native: native}, native)
	if err != nil {
		c.add("dockerfile", c.in.Dockerfile.Name, "", err.Error(), "docker build would say the same")
		return nil
	}
	return g
}

func (c *checker) at(line int) string { return fmt.Sprintf("%s:%d", c.in.Dockerfile.Name, line) }

// dockerfile looks at the Dockerfile, and at what the policy says about it.
func (c *checker) dockerfile() {
	g := c.graph
	if g == nil {
		return
	}
	runs := g.Runs()
	for _, r := range runs {
		for _, option := range r.Weak {
			c.add("weak-option", c.at(r.Line), "", "RUN "+option+" is not available in a cage", "remove the option; allow the destinations that the step needs instead")
		}
	}
	if c.policy == nil {
		return
	}
	c.selected(runs)
	c.fetches(g)
}

// step is a RUN as a policy knows it.
func step(r dockerfile.Run) policy.Step {
	return policy.Step{Command: r.Command, Stage: r.Stage, Line: r.Line, Secrets: r.Secrets}
}

// selected finds entries that select no RUN, and those of which earlier
// entries take all. What an unknown command selects is nobody's guess.
func (c *checker) selected(runs []dockerfile.Run) {
	for i, s := range c.cfg.Spec.Steps {
		alone := c.cfg.Spec
		alone.Steps = []policy.StepSpec{s}
		one, err := policy.Compile(alone)
		if err != nil {
			continue // Load has said so
		}
		fits, decides, unsure, before := 0, false, false, -1
		for _, r := range runs {
			switch {
			case r.Command == "" || r.Stage == "" && s.Stage != "":
				unsure = true
			case one.For(step(r)).Own():
				fits++
				winner := c.policy.For(step(r)).Entry()
				decides = decides || winner == i
				if winner < i {
					before = winner
				}
			}
		}
		switch {
		case decides || unsure || c.has("duplicate-entry", s.Pos):
		case fits == 0:
			c.add("unused-entry", s.Pos, "", "no RUN of "+c.in.Dockerfile.Name+" is selected by "+explain.Selector(s), "correct its selectors, or remove the entry")
		case before >= 0:
			hidden := c.cfg.Spec.Steps[before]
			c.add("hidden-entry", s.Pos, "", fmt.Sprintf("earlier entries take all steps that it selects, such as %s at %s", explain.Selector(hidden), hidden.Pos), "move it in front of the wider entry: the first that matches decides")
		}
	}
}
