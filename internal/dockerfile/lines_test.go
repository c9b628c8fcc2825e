package dockerfile

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/buildcage/buildcage/internal/event"
)

// registry has two images for every name: one with ONBUILD triggers for names
// that say so, in a working directory that is not the root.
type registry struct{}

func (registry) ResolveImageConfig(_ context.Context, ref string, _ sourceresolver.Opt) (string, digest.Digest, []byte, error) {
	var img dockerspec.DockerOCIImage
	img.OS, img.Architecture = "linux", "amd64"
	img.RootFS.Type, img.RootFS.DiffIDs = "layers", []digest.Digest{digest.FromString(ref)}
	if strings.Contains(ref, "empty") {
		img.RootFS.DiffIDs = nil
	}
	if strings.Contains(ref, "onbuild") {
		img.Config.WorkingDir = "/srv"
		img.Config.OnBuild = []string{"ENV A=b", "RUN trigger $A", "COPY . /srv", "RUN trigger $A"}
	}
	dt, err := json.Marshal(img)
	return ref, digest.FromString(ref), dt, err
}

// truth converts a Dockerfile with BuildKit's own frontend and returns the
// lines that it gives to its RUN vertices, by escaped name. A vertex that
// stages share has several lines and the name of one of them.
func truth(t *testing.T, text string, opt Options) (names []string, lines [][]int) {
	t.Helper()
	seen := make(map[string][]int)
	for _, p := range opt.Wanted() {
		src := llb.NewSourceMap(nil, "Dockerfile", "Dockerfile", []byte(text))
		res, err := dockerfile2llb.Dockerfile2LLB(t.Context(), []byte(text), dockerfile2llb.ConvertOpt{
			Config: dockerui.Config{
				Target: opt.Target, BuildArgs: opt.BuildArgs, MultiPlatformRequested: len(opt.Platforms) > 1,
				BuildPlatforms: []ocispecs.Platform{opt.Native},
			},
			SourceMap: src, TargetPlatform: &p, MetaResolver: registry{},
		})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		def, err := res.State.Marshal(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pbs := def.ToPB()
		for _, dt := range pbs.Def {
			var op pb.Op
			if err := op.UnmarshalVT(dt); err != nil {
				t.Fatal(err)
			}
			d := string(digest.FromBytes(dt))
			if op.GetExec() == nil {
				continue
			}
			name := event.Escape(pbs.Metadata[d].Description["llb.customname"])
			for _, at := range pbs.Source.Locations[d].Locations {
				seen[name] = append(seen[name], int(at.Ranges[0].Start.Line))
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		slices.Sort(seen[name])
		names, lines = append(names, name), append(lines, slices.Compact(seen[name]))
	}
	return names, lines
}

func amd64() Options { return Options{Native: platforms.MustParse("linux/amd64")} }

// The lines are those that the frontend itself notes.
func TestLinesAreBuildKits(t *testing.T) {
	both := amd64()
	both.Platforms = []ocispecs.Platform{platforms.MustParse("linux/amd64"), platforms.MustParse("linux/arm64")}
	target := amd64()
	target.Target = "two"
	args := amd64()
	args.BuildArgs = map[string]string{"BASE": "one", "X": "/", "V": "1 2"}
	for name, c := range map[string]struct {
		text string
		opt  Options
		want int // vertices
	}{
		"one stage":   {"# c\n\nFROM base\nENV A=b\nRUN a \\\n  b\n\nRUN a   b\n", amd64(), 2},
		"named":       {"FROM base AS one\nRUN x\n", amd64(), 1},
		"same text":   {"FROM base AS one\nENV A=1\nRUN x\nFROM base AS two\nENV A=2\nRUN x\nFROM base\nRUN x\nCOPY --from=one / /a\nCOPY --from=two / /b\n", amd64(), 3},
		"target":      {"FROM base AS one\nRUN x\nFROM one AS two\nRUN x\nRUN x\nFROM two\nRUN x\n", target, 3},
		"workdir":     {"FROM base\nWORKDIR /\nRUN x\nWORKDIR /a/b\nRUN x\nWORKDIR ..\nWORKDIR ..\nRUN x\n", amd64(), 3},
		"onbuild":     {"FROM onbuild AS one\nRUN x\nFROM base\nWORKDIR $W\nRUN x\nCOPY --from=one / /\n", amd64(), 4},
		"own onbuild": {"FROM base AS one\nONBUILD RUN x\nONBUILD WORKDIR /\nRUN x\nFROM one\nRUN x\n", amd64(), 3},
		"empty image": {"FROM empty\nCOPY a b\nRUN x\nRUN x\n", amd64(), 2},
		"heredoc":     {"FROM base\nRUN <<EOF\nx\ny\nEOF\nRUN <<A cat <<B\n1\nA\n2\nB\nRUN x\n", amd64(), 3},
		"flags":       {"FROM base AS one\nRUN --mount=type=cache,target=/c --network=none x $A\nFROM base\nRUN --mount=from=one,target=/x x\n", amd64(), 2},
		"json":        {"FROM base\nRUN [\"a\", \"$b\"]\nSHELL [\"/bin/bash\", \"-c\"]\nRUN a\n", amd64(), 2},
		"variables":   {"ARG BASE\nFROM base AS one\nRUN x\nFROM ${BASE}\nARG V\nENV W=w\nRUN a $V ${W}-'$W' \\$V ${U:-d} \"q\"\nRUN a ${V:+v} ${U:+u}\n", args, 3},
		"platforms":   {"FROM --platform=$BUILDPLATFORM base AS one\nRUN x\nFROM base\nARG TARGETARCH\nRUN x $TARGETARCH\nCOPY --from=one / /\n", both, 3},
		"images":      {"FROM base\nRUN x\nCOPY --from=other / /\nRUN x\n", amd64(), 2},
		"link":        {"FROM base\nCOPY --link a b\nADD https://pypi.org/x /\nRUN x\n", amd64(), 1},
		"lower case":  {"from base\nrun x\n", amd64(), 1},
		"escape":      {"# escape=`\nFROM base\nRUN a `\n b\nRUN a\\b\n", amd64(), 2},
	} {
		t.Run(name, func(t *testing.T) {
			names, want := truth(t, c.text, c.opt)
			if len(names) != c.want {
				t.Fatalf("%d vertices: %q", len(names), names)
			}
			l, err := NewLines([]byte(c.text), c.opt)
			if err != nil {
				t.Fatal(err)
			}
			var got [][]int
			for _, line := range l.Of(names) {
				got = append(got, []int{line})
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%q (-want +got):\n%s", names, diff)
			}
		})
	}
}

// Whatever subset of the vertices is seen, a line is BuildKit's or unknown.
func TestLinesNeverLie(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(texts ...string) string { return texts[random.IntN(len(texts))] }
	known, all := 0, 0
	for range 300 {
		var b strings.Builder
		stages := 1 + random.IntN(3)
		for i := range stages {
			fmt.Fprintf(&b, "FROM %s%s\n", pick("base", "empty", "onbuild", "scratch"), pick("", fmt.Sprintf(" AS s%d", i), fmt.Sprintf(" AS S%d", i)))
			for range random.IntN(6) {
				b.WriteString(pick("RUN x\n", "RUN x\n", "RUN y $X\n", "WORKDIR /\n", "WORKDIR ..\n", "WORKDIR $X\n", "WORKDIR a\n", "COPY a b\n", "ENV X=/\n", "ONBUILD RUN x\n", "RUN <<E\nz\nE\n"))
			}
			if i > 0 {
				fmt.Fprintf(&b, "COPY --from=%d / /\n", random.IntN(i))
			}
		}
		names, lines := truth(t, b.String(), amd64())
		for i := range names { // some steps never run
			if random.IntN(4) == 0 {
				names, lines = slices.Delete(slices.Clone(names), i, i+1), slices.Delete(slices.Clone(lines), i, i+1)
				break
			}
		}
		l, err := NewLines([]byte(b.String()), amd64())
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range l.Of(names) {
			all++
			if got != 0 {
				known++
			}
			if got != 0 && !slices.Contains(lines[i], got) {
				t.Fatalf("%q: line %d, want %v in\n%s", names[i], got, lines[i], b.String())
			}
		}
	}
	if known*10 < all*8 {
		t.Errorf("only %d of %d lines are known", known, all)
	}
	t.Logf("%d of %d lines known", known, all)
}

// What no frontend of ours wrote has no line.
func TestLinesUnknown(t *testing.T) {
	l, err := NewLines([]byte("FROM base\nRUN x\nRUN y\n"), amd64())
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"", "RUN x", "[2/2] RUN x", "[2/3] RUN z", "[3/3] RUN x", "[other 2/3] RUN x", "[internal] load", "[2/3 RUN x", `[2/3] RUN\zz`}
	for _, n := range names {
		if got := l.Of([]string{n}); got[0] != 0 {
			t.Errorf("%q has line %d", n, got[0])
		}
	}
	if got := l.Of([]string{`[2/3] RUN x` + event.Mark + `z`, "[3/3] RUN y"}); !cmp.Equal(got, []int{2, 3}) {
		t.Errorf("a text that was cut: %v", got)
	}
}

// A named context in place of the base image has no number.
func TestLinesNamedContext(t *testing.T) {
	opt := amd64()
	opt.Contexts = []string{"base"}
	l, err := NewLines([]byte("FROM base AS a\nRUN x\nRUN x\nRUN x\n"), opt)
	if err != nil {
		t.Fatal(err)
	}
	if got := l.Of([]string{"[a 2/4] RUN x"}); !cmp.Equal(got, []int{3}) {
		t.Errorf("line %v", got)
	}
}

func FuzzLines(f *testing.F) {
	f.Add("FROM base\nWORKDIR $X\nRUN x\n", "[2/3] RUN x")
	f.Add("FROM a AS b\nONBUILD RUN x\nFROM b\nRUN ${a:+b}$(c)\n", "[linux/amd64 stage-1 1/2] ONBUILD RUN x")
	f.Fuzz(func(t *testing.T, text, name string) {
		l, err := NewLines([]byte(text), amd64())
		if err != nil {
			return
		}
		for _, line := range l.Of([]string{name, name}) {
			if line < 0 || line > strings.Count(text, "\n")+1 {
				t.Errorf("line %d", line)
			}
		}
	})
}
