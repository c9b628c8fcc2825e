// Package localimage makes images that exist only in the local engine usable
// in a build that runs elsewhere. It reads the Dockerfile as BuildKit will,
// looks every base image up in the engine, and exports what is there as an OCI
// layout, once per image, for buildx to hand to BuildKit as a named context.
//
// A local image wins over the registry, as with docker build; --pull turns
// that around. Whatever it can't read or must not decide it leaves to BuildKit,
// which reports it better.
package localimage

import (
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// Options are what a Dockerfile is read with.
type Options struct {
	Target    string
	BuildArgs map[string]string
	// Platforms are the requested ones; empty: Native.
	Platforms []ocispecs.Platform
	Native    ocispecs.Platform // the engine's own
	// Contexts are the names of --build-context; they replace stages and images.
	Contexts []string
}

// Ref is an image that the build needs from outside the Dockerfile.
type Ref struct {
	Name     string // canonical, with tag or digest: docker.io/library/alpine:3.20
	Key      string // the name that buildx and BuildKit know a named context by: alpine:3.20
	Platform ocispecs.Platform
	Line     int // where it is first named
}

// Plan is what a Dockerfile asks for, limited to the stages that the target needs.
type Plan struct {
	Refs []Ref
	// Forbidden are options of RUN that a cage never grants.
	Forbidden []Forbidden
	// Clashes are images that share their name with a stage (FROM node AS
	// node). A named context would replace the stage as well, so BuildKit
	// takes such an image from the registry.
	Clashes []Ref
}

// Forbidden is one option of a RUN instruction.
type Forbidden struct {
	Line   int
	Option string // --network=host
}

// Read parses a Dockerfile.
func Read(dockerfile []byte, opt Options) (*Plan, error) {
	wanted := opt.Platforms
	if len(wanted) == 0 {
		wanted = []ocispecs.Platform{opt.Native}
	}
	var plan Plan
	all := map[string][]Ref{} // by key, one per platform
	var order []string
	for _, p := range wanted {
		g, err := newGraph(dockerfile, opt, p)
		if err != nil {
			return nil, err
		}
		reachable := g.reachable()
		plan.Forbidden = g.forbidden(reachable)
		for _, r := range g.refs(reachable) {
			if _, seen := all[r.Key]; !seen {
				order = append(order, r.Key)
			}
			if !contains(all[r.Key], r) {
				all[r.Key] = append(all[r.Key], r)
			}
		}
		plan.Clashes = g.clashes(reachable)
	}
	for _, key := range order {
		// A named context is one image for all platforms.
		if len(all[key]) == 1 {
			plan.Refs = append(plan.Refs, all[key][0])
		}
	}
	return &plan, nil
}

func contains(refs []Ref, r Ref) bool {
	for _, have := range refs {
		if platforms.Format(have.Platform) == platforms.Format(r.Platform) {
			return true
		}
	}
	return false
}

// Key is the name of an image as a named context. Buildx and the Dockerfile
// frontend both shorten names this way.
func Key(named reference.Named) string {
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest")
}

// parseRef makes a Ref of what stands behind FROM, or says that it is none.
func parseRef(base string, p ocispecs.Platform, line int) (Ref, bool) {
	if base == "" || strings.ContainsRune(base, '$') || strings.EqualFold(base, "scratch") {
		return Ref{}, false
	}
	named, err := reference.ParseNormalizedNamed(base)
	if err != nil {
		return Ref{}, false // BuildKit says what is wrong with it
	}
	named = reference.TagNameOnly(named)
	key := Key(named)
	if key == "context" || key == "dockerfile" {
		return Ref{}, false // BuildKit's own contexts
	}
	return Ref{Name: named.String(), Key: key, Platform: p, Line: line}, true
}

// forbidden are the options of RUN that no cage grants.
func (g *graph) forbidden(reachable []int) []Forbidden {
	var out []Forbidden
	for _, i := range reachable {
		for _, cmd := range g.stages[i].Commands {
			run, ok := cmd.(*instructions.RunCommand)
			if !ok {
				continue
			}
			if mode := instructions.GetNetwork(run); mode == instructions.NetworkHost {
				out = append(out, Forbidden{Line: line(run.Location()), Option: "--network=host"})
			}
			if mode := instructions.GetSecurity(run); mode == instructions.SecurityInsecure {
				out = append(out, Forbidden{Line: line(run.Location()), Option: "--security=insecure"})
			}
			for _, d := range instructions.GetDevices(run) {
				if d.Required {
					out = append(out, Forbidden{Line: line(run.Location()), Option: "--device=" + d.Name})
				}
			}
		}
	}
	return out
}
