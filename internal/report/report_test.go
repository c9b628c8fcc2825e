package report

import (
	"bytes"
	"cmp"
	"flag"
	"os"
	"path/filepath"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got; -update rewrites it):\n%s", file, diff)
	}
}

// The same audit, with its rules per step.
func TestPerStep(t *testing.T) {
	r := scenarios()["audit"].run(t)
	var b bytes.Buffer
	if err := Text(&b, r, Options{Width: 100, PerStep: true}); err != nil {
		t.Fatal(err)
	}
	golden(t, "audit.step.txt", b.Bytes())
}

func TestGolden(t *testing.T) {
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			r := s.run(t)
			for suffix, opts := range map[string]Options{
				".80.txt":     {Width: 80},
				".120.txt":    {Width: 120},
				".colour.txt": {Width: 100, Color: true, Dark: true},
			} {
				var b bytes.Buffer
				if err := Text(&b, r, opts); err != nil {
					t.Fatal(err)
				}
				golden(t, name+suffix, b.Bytes())
			}
			var b bytes.Buffer
			if err := JSON(&b, r); err != nil {
				t.Fatal(err)
			}
			golden(t, name+".json", b.Bytes())
		})
	}
}

// The formats for machines and pages, where they have most to say.
func TestGoldenFormats(t *testing.T) {
	for _, name := range []string{"example", "clean", "hostile", "incomplete", "bytes", "audit"} {
		in := scenarios()[name].build(t)
		in.Dockerfile = cmp.Or(in.Dockerfile, "app/Dockerfile")
		r := Build(in)
		for format, suffix := range map[string]string{FormatMarkdown: ".md", FormatSARIF: ".sarif", FormatJUnit: ".xml", FormatHTML: ".html", FormatGitHub: ".github"} {
			var b bytes.Buffer
			if err := Write(&b, format, r, Options{}); err != nil {
				t.Fatal(err)
			}
			golden(t, name+suffix, b.Bytes())
		}
	}
}
