package localimage

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/platforms"
	"github.com/google/go-cmp/cmp"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/tools/txtar"

	"github.com/buildcage/buildcage/internal/dockerfile"
)

// TestRead runs testdata/read/*.txtar: a Dockerfile, options, and the plan.
func TestRead(t *testing.T) {
	files, err := filepath.Glob("testdata/read/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal("no test data", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			dt, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string]string{}
			for _, f := range txtar.Parse(dt).Files {
				part[f.Name] = string(f.Data)
			}
			plan, err := Read([]byte(part["Dockerfile"]), options(t, part["options"]))
			got := describe(plan, err)
			if diff := cmp.Diff(part["want"], got); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
		})
	}
}

func options(t *testing.T, text string) dockerfile.Options {
	t.Helper()
	opt := dockerfile.Options{Native: platforms.MustParse("linux/amd64"), BuildArgs: map[string]string{}}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch name {
		case "target":
			opt.Target = value
		case "arg":
			k, v, _ := strings.Cut(value, "=")
			opt.BuildArgs[k] = v
		case "platform":
			opt.Platforms = append(opt.Platforms, platforms.MustParse(value))
		case "context":
			opt.Contexts = append(opt.Contexts, value)
		default:
			t.Fatalf("unknown option %q", name)
		}
	}
	return opt
}

func describe(p *Plan, err error) string {
	if err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		return "error " + first + "\n"
	}
	var b strings.Builder
	for _, r := range p.Refs {
		fmt.Fprintf(&b, "%d %s %s %s\n", r.Line, r.Key, r.Name, platforms.Format(r.Platform))
	}
	for _, r := range p.Clashes {
		fmt.Fprintf(&b, "%d clash %s\n", r.Line, r.Key)
	}
	for _, f := range p.Forbidden {
		fmt.Fprintf(&b, "%d forbidden %s\n", f.Line, f.Option)
	}
	return b.String()
}

func FuzzRead(f *testing.F) {
	f.Add("ARG A=b\nFROM $A AS c\nRUN --mount=from=x,target=/y z\nFROM c\nCOPY --from=0 a b\n", "c")
	f.Add("# escape=`\nFROM a:1@sha256:"+strings.Repeat("0", 64)+"\nRUN <<EOF\nx\nEOF\n", "")
	f.Fuzz(func(t *testing.T, text, target string) {
		opt := dockerfile.Options{Target: target, Native: ocispecs.Platform{OS: "linux", Architecture: "amd64"}}
		plan, err := Read([]byte(text), opt)
		if err != nil {
			return
		}
		for _, r := range plan.Refs {
			again, ok := parseRef(r.Name, r.Platform, r.Line)
			if !ok || again.Key != r.Key || strings.ContainsAny(r.Key, "= ,") {
				t.Errorf("reference %+v does not survive a round trip (%+v)", r, again)
			}
		}
	})
}
