package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/lock"
	"github.com/buildcage/buildcage/internal/policy"
)

// notExecuted marks a snippet that no test runs, in a comment of its own.
const notExecuted = "(not executed by the tests)"

// snippet is a fenced block of a document.
type snippet struct {
	language, text string
	line           int
}

func snippets(text string) []snippet {
	var all []snippet
	var open *snippet
	for n, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			open = &snippet{language: strings.TrimPrefix(trimmed, "```"), line: n + 2}
		case open != nil && trimmed == "```":
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	return all
}

func TestSnippets(t *testing.T) {
	got := snippets("a\n```yaml\nb: c\n```\n  ```\n  d\n  ```\n")
	want := []snippet{{"yaml", "b: c\n", 3}, {"", "  d\n", 6}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(snippet{})); diff != "" {
		t.Error(diff)
	}
}

// TestDocumentation keeps what the documents tell people to write: policies
// load, Dockerfiles parse, and commands have the flags they are shown with.
func TestDocumentation(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	if files = append(files, "../../README.md"); len(files) < 5 {
		t.Fatalf("only %v", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range snippets(string(text)) {
			if err := s.check(); err != nil {
				t.Errorf("%s:%d: %v", filepath.Base(file), s.line, err)
			}
		}
	}
}

func (s snippet) check() error {
	if strings.Contains(s.text, notExecuted) {
		return nil
	}
	switch s.language {
	case "yaml":
		if strings.Contains(s.text, "reached:") { // a lock
			_, err := lock.Parse(lock.Name, []byte(s.text))
			return err
		}
		cfg, err := config.Load(config.Name, []byte(s.text))
		if err != nil {
			return err
		}
		_, err = policy.Compile(cfg.Spec)
		return err
	case "dockerfile":
		_, err := parser.Parse(strings.NewReader(s.text))
		return err
	case "json":
		var v any
		return json.Unmarshal([]byte(s.text), &v)
	case "sh":
		return commands(strings.Split(s.text, "\n"))
	case "console":
		var typed []string
		for line := range strings.Lines(s.text) {
			if command, ok := strings.CutPrefix(line, "$ "); ok {
				typed = append(typed, command)
			}
		}
		return commands(typed)
	}
	return nil
}

// commands looks at those lines of a shell that call us: the command exists
// and has the flags.
func commands(lines []string) error {
	for _, line := range lines {
		line, _, _ = strings.Cut(line, " #")
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "buildcage" {
			continue
		}
		root, err := (&app{streams: standard()}).root()
		if err != nil {
			return err
		}
		cmd, rest, err := root.Find(words[1:])
		if err != nil {
			return err
		}
		if err := cmd.ParseFlags(rest); err != nil {
			return err
		}
	}
	return nil
}
