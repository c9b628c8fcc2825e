package dockerfile

import (
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

// globalArgs is what FROM can refer to: the platform arguments, then every ARG
// before the first FROM with --build-arg before its default.
func globalArgs(lex *shell.Lex, meta []instructions.ArgCommand, opt Options, target ocispecs.Platform, last string) (shell.EnvGetter, error) {
	env := predefined(opt, target, last)
	for _, cmd := range meta {
		for _, kv := range cmd.Args {
			value, given := opt.BuildArgs[kv.Key]
			if !given && kv.Value == nil {
				continue
			}
			if !given {
				r, err := lex.ProcessWordWithMatches(*kv.Value, shell.EnvsFromSlice(env))
				if err != nil {
					return nil, fmt.Errorf("expanding ARG %s in the Dockerfile: %w", kv.Key, err)
				}
				value = r.Result
			}
			env = append(env, kv.Key+"="+value) // the last one counts
		}
	}
	return shell.EnvsFromSlice(env), nil
}

func predefined(opt Options, target ocispecs.Platform, last string) []string {
	stage := opt.Target
	if stage == "" {
		stage = last
	}
	if stage == "" {
		stage = "default"
	}
	build := opt.Native
	var env []string
	for _, kv := range [...][2]string{
		{"BUILDPLATFORM", platforms.Format(build)}, {"BUILDOS", build.OS}, {"BUILDOSVERSION", build.OSVersion},
		{"BUILDARCH", build.Architecture}, {"BUILDVARIANT", build.Variant},
		{"TARGETPLATFORM", platforms.FormatAll(target)}, {"TARGETOS", target.OS}, {"TARGETOSVERSION", target.OSVersion},
		{"TARGETARCH", target.Architecture}, {"TARGETVARIANT", target.Variant}, {"TARGETSTAGE", stage},
	} {
		value, given := opt.BuildArgs[kv[0]]
		if !given {
			value = kv[1]
		}
		env = append(env, kv[0]+"="+value)
	}
	return env
}

// Key is the name of an image as a named context. Buildx and the Dockerfile
// frontend both shorten names this way.
func Key(named reference.Named) string {
	return strings.TrimSuffix(reference.FamiliarString(named), ":latest")
}

func contextKeys(names []string) map[string]bool {
	out := map[string]bool{}
	for _, n := range names {
		if key, ok := key(n); ok {
			out[key] = true
		}
	}
	return out
}

func key(name string) (string, bool) {
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return "", false
	}
	return Key(named), true
}
