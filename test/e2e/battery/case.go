// Package battery runs hostile builds in the lab and lets three oracles decide:
// traffic (what sink, origin, resolver and uplink counted), record (the events,
// all of them) and liveness (behind the case, in the same cage, an allowed
// fetch passes and a denied one fails). A client's exit code is never asked.
//
// One case is one file, GROUP/ID.txtar; docs/adding-a-case.md is the format.
package battery

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/txtar"
)

// Mode is how a case is run.
type Mode string

const (
	Restrict Mode = "restrict"
	Audit    Mode = "audit"
	Uncaged  Mode = "uncaged" // the negative control
)

// Case is one file.
type Case struct {
	ID, Group, Title, Story string

	Priority string // P0, P1, P2
	Smoke    bool
	Leak     bool   // it must fail on the uncaged builder
	Gap      string // the sentence that documents what is not prevented
	Control  bool   // CTL-07: the negative control itself
	Live     bool
	Args     []string
	Hook     []string
	Waive    []string // invariants that do not apply: uplink, names, sink
	Timeout  time.Duration
	Modes    []Mode

	Files  map[string]string // the build context, placeholders unfilled
	Policy string
	Zone   string
	Expect map[Mode][]Expectation // with placeholders for the run's own values
	lines  map[Mode]string
}

const defaultTimeout = 90 * time.Second

// defaultPolicy is the lab's standard: the origin is allowed by its names.
const defaultPolicy = `version: 1
allowed_https_rules: [allowed.test:443, allowed.test:8443, "*.allowed.test:443"]
allowed_http_rules: [allowed.test:80, allowed.test:8080, "*.allowed.test:80"]
allow_private: [10.200.0.0/24]
`

// Load reads every case below dir, in order of group and number. The error
// tells of every file that is no case; the others are returned all the same.
func Load(dir string) ([]*Case, error) {
	var cases []*Case
	var broken []error
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".txtar" || d.Name() == "testdata" {
			return err
		}
		c, err := readCase(path)
		if err != nil {
			broken = append(broken, err)
			return nil
		}
		cases = append(cases, c)
		return nil
	})
	slices.SortFunc(cases, func(a, b *Case) int { return strings.Compare(a.ID, b.ID) })
	return cases, errors.Join(append(broken, err)...)
}

func readCase(path string) (*Case, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := Parse(strings.TrimSuffix(filepath.Base(path), ".txtar"), data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if group := filepath.Base(filepath.Dir(path)); group != c.Group {
		return nil, fmt.Errorf("%s: the case belongs in %s/", path, c.Group)
	}
	return c, nil
}

// Parse reads one case.
func Parse(id string, data []byte) (*Case, error) {
	if !regexp.MustCompile(`^[A-Z]{2,5}-[0-9]{2,3}[a-z]?$`).MatchString(id) {
		return nil, fmt.Errorf("%q is no id: GROUP-NN", id)
	}
	a := txtar.Parse(data)
	title, story, _ := strings.Cut(strings.TrimSpace(string(a.Comment)), "\n")
	c := &Case{
		ID: id, Title: title, Story: strings.TrimSpace(story), Policy: defaultPolicy, Live: true, Timeout: defaultTimeout,
		Modes: []Mode{Restrict, Audit}, Files: make(map[string]string), Expect: make(map[Mode][]Expectation), lines: make(map[Mode]string),
	}
	c.Group, _, _ = strings.Cut(id, "-")
	seen := make(map[string]bool)
	for _, f := range a.Files {
		if seen[f.Name] {
			return nil, fmt.Errorf("section %s twice", f.Name)
		}
		seen[f.Name] = true
		if err := c.section(f.Name, string(f.Data)); err != nil {
			return nil, fmt.Errorf("section %s: %w", f.Name, err)
		}
	}
	return c, c.check()
}

func (c *Case) section(name, text string) (err error) {
	switch name {
	case "case":
		return c.keys(text)
	case "buildcage.yaml":
		c.Policy = text
	case "zone":
		c.Zone = text
	case string(Restrict), string(Audit), string(Uncaged):
		mode := Mode(name)
		if strings.TrimSpace(text) == "same" {
			if c.Expect[Restrict] == nil {
				return fmt.Errorf("same as what: there is no restrict section before it")
			}
			text = c.lines[Restrict]
		}
		c.lines[mode] = text
		c.Expect[mode], err = ParseExpectations(fixed().Replace(text))
	default:
		if !filepath.IsLocal(name) {
			return fmt.Errorf("not a path inside the context")
		}
		c.Files[name] = text
	}
	return err
}

func (c *Case) keys(text string) error {
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			return fmt.Errorf("line %d: want key: value", i+1)
		}
		if err := c.key(strings.TrimSpace(key), strings.TrimSpace(value)); err != nil {
			return fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return nil
}

func (c *Case) key(key, value string) (err error) {
	switch key {
	case "priority":
		c.Priority = value
	case "smoke":
		c.Smoke, err = yes(value)
	case "leak":
		c.Leak, err = yes(value)
	case "control":
		c.Control, err = yes(value)
	case "liveness":
		c.Live, err = yes(value)
	case "gap":
		c.Gap = value
	case "args":
		c.Args = strings.Fields(value)
	case "hook":
		c.Hook = strings.Fields(value)
	case "waive":
		c.Waive = strings.Fields(value)
	case "timeout":
		c.Timeout, err = time.ParseDuration(value)
	case "modes":
		c.Modes = nil
		for m := range strings.FieldsSeq(value) {
			c.Modes = append(c.Modes, Mode(m))
		}
	default:
		err = fmt.Errorf("unknown key %q", key)
	}
	return err
}

func yes(value string) (bool, error) {
	switch value {
	case "yes":
		return true, nil
	case "no":
		return false, nil
	}
	return false, fmt.Errorf("%q: want yes or no", value)
}

// check refuses what would make a case prove less than it says.
func (c *Case) check() error {
	if c.Title == "" || c.Story == "" {
		return fmt.Errorf("the file begins with a title and, below it, the story")
	}
	if !slices.Contains([]string{"P0", "P1", "P2"}, c.Priority) {
		return fmt.Errorf("priority: %q, want P0, P1 or P2", c.Priority)
	}
	if c.Control {
		return nil
	}
	if c.Files["Dockerfile"] == "" {
		return fmt.Errorf("there is no Dockerfile")
	}
	for _, w := range c.Waive {
		if !slices.Contains([]string{"uplink", "names", "sink"}, w) {
			return fmt.Errorf("waive: there is no invariant %q", w)
		}
	}
	if len(c.Hook) > 0 && hooks()[c.Hook[0]] == nil {
		return fmt.Errorf("hook: there is no hook %q", c.Hook[0])
	}
	for _, m := range c.Modes {
		if m != Restrict && m != Audit {
			return fmt.Errorf("modes: %q, want restrict or audit", m)
		}
		if c.Expect[m] == nil {
			return fmt.Errorf("there is no section %s", m)
		}
	}
	return nil
}
