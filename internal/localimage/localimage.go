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

	"github.com/buildcage/buildcage/internal/dockerfile"
)

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
func Read(text []byte, opt dockerfile.Options) (*Plan, error) {
	var plan Plan
	all := map[string][]Ref{} // by key, one per platform
	var order []string
	for _, p := range opt.Wanted() {
		g, err := dockerfile.Parse(text, opt, p)
		if err != nil {
			return nil, err
		}
		reachable := g.Reachable()
		plan.Forbidden = forbidden(g, reachable)
		needs := images(g, reachable)
		for _, r := range needs.clean {
			if _, seen := all[r.Key]; !seen {
				order = append(order, r.Key)
			}
			if !contains(all[r.Key], r) {
				all[r.Key] = append(all[r.Key], r)
			}
		}
		plan.Clashes = needs.clashes
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
	key := dockerfile.Key(named)
	if key == "context" || key == "dockerfile" {
		return Ref{}, false // BuildKit's own contexts
	}
	return Ref{Name: named.String(), Key: key, Platform: p, Line: line}, true
}

// needs are the images of the reachable stages that the caller does not replace.
type needs struct {
	clean   []Ref
	clashes []Ref // those that share their name with a stage
}

func images(g *dockerfile.Graph, reachable []int) needs {
	var n needs
	add := func(base string, p ocispecs.Platform, line int) {
		r, ok := parseRef(base, p, line)
		switch {
		case !ok || g.Context(r.Key):
		case g.Named(r.Key):
			n.clashes = append(n.clashes, r)
		default:
			n.clean = append(n.clean, r)
		}
	}
	for _, i := range reachable {
		st := g.Stages[i]
		p := g.Platform
		if parsed, err := platforms.Parse(st.Platform); st.Platform != "" && err == nil {
			p = platforms.Normalize(parsed)
		}
		if g.Bases[i] < 0 {
			add(st.BaseName, p, dockerfile.Line(st.Location))
		}
		for _, s := range dockerfile.Sources(st) {
			if _, stage := g.Find(s.From); !stage {
				add(s.From, g.Platform, s.Line)
			}
		}
	}
	return n
}

// forbidden are the options of RUN that no cage grants.
func forbidden(g *dockerfile.Graph, reachable []int) []Forbidden {
	var out []Forbidden
	for _, i := range reachable {
		for _, cmd := range g.Stages[i].Commands {
			run, ok := cmd.(*instructions.RunCommand)
			if !ok {
				continue
			}
			if mode := instructions.GetNetwork(run); mode == instructions.NetworkHost {
				out = append(out, Forbidden{Line: dockerfile.Line(run.Location()), Option: "--network=host"})
			}
			if mode := instructions.GetSecurity(run); mode == instructions.SecurityInsecure {
				out = append(out, Forbidden{Line: dockerfile.Line(run.Location()), Option: "--security=insecure"})
			}
			for _, d := range instructions.GetDevices(run) {
				if d.Required {
					out = append(out, Forbidden{Line: dockerfile.Line(run.Location()), Option: "--device=" + d.Name})
				}
			}
		}
	}
	return out
}
