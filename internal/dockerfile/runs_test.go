package dockerfile

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
)

// arguments are what BuildKit's own frontend makes of each RUN.
func arguments(t *testing.T, text string) (args [][]string) {
	t.Helper()
	native := amd64().Native
	res, err := dockerfile2llb.Dockerfile2LLB(t.Context(), []byte(text), dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{}, TargetPlatform: &native, MetaResolver: registry{},
	})
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	def, err := res.State.Marshal(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, dt := range def.ToPB().Def {
		var op pb.Op
		if err := op.UnmarshalVT(dt); err != nil {
			t.Fatal(err)
		}
		if e := op.GetExec(); e != nil {
			args = append(args, e.Meta.Args)
		}
	}
	return args
}

var _ llb.ImageMetaResolver = registry{}

// The commands are those that BuildKit will run.
func TestRunCommandsAreBuildKits(t *testing.T) {
	for name, text := range map[string]string{
		"shell":      "FROM base\nRUN npm ci\nRUN   a   b \\\n  c\n",
		"variables":  "FROM base\nARG V=1\nRUN a $V ${V:-x} \"$HOME\" \\$V\n",
		"exec":       "FROM base\nRUN [\"npm\", \"ci\", \"a b\", \"it's\", \"\"]\n",
		"exec shell": "FROM base\nRUN [\"/bin/sh\", \"-c\", \" npm ci \"]\n",
		"bash":       "FROM base\nSHELL [\"/bin/bash\", \"-o\", \"pipefail\", \"-c\"]\nRUN a | b\n",
		"heredoc":    "FROM base\nRUN <<EOF\nx\n  y\nEOF\nRUN <<-EOF\n\tx\n\ty\nEOF\nRUN cat <<A - <<B\n1\nA\n2\nB\n",
		"script":     "FROM base\nRUN <<EOF\n#!/usr/bin/env python3\nprint(1)\nEOF\n",
		"flags":      "FROM base\nRUN --network=none --mount=type=cache,target=/c x\n",
		"comment":    "FROM base\nRUN a && \\\n# why\n  b\n",
	} {
		t.Run(name, func(t *testing.T) {
			g, err := Parse([]byte(text), amd64(), amd64().Native)
			if err != nil {
				t.Fatal(err)
			}
			var got, want []string
			for _, r := range g.Runs() {
				got = append(got, r.Command)
			}
			for _, args := range arguments(t, text) {
				command := quoted(args)
				if n := len(args); n > 2 && strings.HasSuffix(args[0], "sh") && args[n-2] == "-c" {
					command = strings.TrimSpace(args[n-1])
				}
				want = append(want, command)
			}
			slices.Sort(got)
			slices.Sort(want)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-BuildKit +Runs):\n%s", diff)
			}
		})
	}
}

func TestRuns(t *testing.T) {
	const text = `FROM base AS one
RUN --mount=type=secret,id=a --network=host x
SHELL ["powershell"]
RUN y
FROM one
RUN --mount=type=ssh --security=insecure z
`
	g, err := Parse([]byte(text), amd64(), amd64().Native)
	if err != nil {
		t.Fatal(err)
	}
	want := []Run{
		{Stage: "one", Line: 2, Command: "x", Secrets: true, Weak: []string{"--network=host"}},
		{Stage: "one", Line: 4}, // nobody knows what that shell makes of it
		{Stage: "stage-1", Line: 6, Secrets: true, Weak: []string{"--security=insecure"}},
	}
	if diff := cmp.Diff(want, g.Runs()); diff != "" {
		t.Error(diff)
	}
}

func TestFetches(t *testing.T) {
	const text = "FROM base AS one\nFROM one\nCOPY --from=one / /\nCOPY --from=two:1 / /\nADD a https://pypi.org/x $U /\nRUN --mount=from=three,target=/x y\nFROM scratch\n"
	g, err := Parse([]byte(text), amd64(), amd64().Native)
	if err != nil {
		t.Fatal(err)
	}
	want := []Fetch{{1, "FROM", "base"}, {4, "--from", "two:1"}, {6, "--from", "three"}, {5, "ADD", "https://pypi.org/x"}}
	if diff := cmp.Diff(want, g.Fetches()); diff != "" {
		t.Error(diff)
	}
	if ref, line := Syntax([]byte("# syntax=docker/dockerfile:1\nFROM base\n")); ref != "docker/dockerfile:1" || line != 1 {
		t.Errorf("%q in line %d", ref, line)
	}
}
