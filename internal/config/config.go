// Package config reads buildcage.yaml into a policy.Spec and writes observed
// rules back into it. It is strict: an unknown key, a wrong type or a rule that
// does not parse is an error with file, line and column, and all of them are
// reported at once. It touches no file but to find one.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/buildcage/buildcage/internal/policy"
)

// Name is the name of the file.
const Name = "buildcage.yaml"

// Version is the version of the file format that this program reads.
const Version = 1

// Config is what a file and the flags say.
type Config struct {
	Path    string // as given to Load, empty without a file
	Spec    policy.Spec
	ExtraCA []string // paths as written; relative ones are relative to the file
	// Accepted are the findings that check shall not report: what check.accept says.
	Accepted []policy.Text
}

// Default is the configuration without a file: restrict, nothing allowed.
func Default() *Config {
	return &Config{Spec: policy.Spec{Mode: policy.Restrict}}
}

// Mode is what `buildcage build` does.
func (c *Config) Mode() policy.Mode { return c.Spec.Mode }

// Load reads a file's data. path is only for positions. The error is a
// policy.Errors sorted by position; each has a Hint.
func Load(path string, data []byte) (*Config, error) {
	src := newSource(path, data)
	root, err := src.parse()
	if err != nil {
		return nil, err
	}
	d := &decoder{src: src, cfg: Default()}
	d.cfg.Path = path
	d.document(root)
	if _, err := policy.Compile(d.cfg.Spec); err != nil {
		var errs policy.Errors
		if !errors.As(err, &errs) {
			return nil, fmt.Errorf("compiling %s: %w", path, err)
		}
		d.errs = append(d.errs, errs...)
	}
	if len(d.errs) > 0 {
		slices.SortStableFunc(d.errs, func(a, b *policy.Error) int {
			lineA, colA := lineColumn(a.Pos)
			lineB, colB := lineColumn(b.Pos)
			return cmp.Or(cmp.Compare(lineA, lineB), cmp.Compare(colA, colB))
		})
		return nil, d.errs
	}
	return d.cfg, nil
}

func lineColumn(pos string) (line, column int) {
	parts := strings.Split(pos, ":")
	if len(parts) < 3 {
		return 0, 0
	}
	line, _ = strconv.Atoi(parts[len(parts)-2])
	column, _ = strconv.Atoi(parts[len(parts)-1])
	return line, column
}

// Find looks for the file in the build context, then in the working directory.
// An empty directory is skipped. Without a file the path is empty.
func Find(contextDir, workDir string) (string, error) {
	for _, dir := range []string{contextDir, workDir} {
		if dir == "" {
			continue
		}
		path := filepath.Join(dir, Name)
		info, err := os.Stat(path)
		switch {
		case err == nil && info.IsDir():
			return "", policy.NewError(path, "is a directory", "the configuration is a file of that name")
		case err == nil:
			return path, nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", fmt.Errorf("looking for %s: %w", Name, err)
		}
		other := filepath.Join(dir, "buildcage.yml")
		if _, err := os.Stat(other); err == nil {
			return "", policy.NewError(other, "this name is not read", "rename it to "+Name)
		}
	}
	return "", nil
}

// Allow adds the rules of a flag: one or more, separated by white space. Who
// types a flag means the build, so the rules hold at the top level and in every
// entry of steps: but those with network: none. The builder's rules are its
// own. The error is a policy.Errors; nothing is added then.
func (c *Config) Allow(list policy.List, text string) error {
	texts := c.Spec.Rules.Of(list)
	if texts == nil {
		return fmt.Errorf("adding to %s: no such list of rules", list)
	}
	add, err := flagRules(list, text)
	if err != nil {
		return err
	}
	*texts = append(*texts, add...)
	for i := range c.Spec.Steps {
		if s := &c.Spec.Steps[i]; s.Network == "" {
			own := s.Rules.Of(list)
			*own = append(*own, add...)
		}
	}
	return nil
}

// Expect adds known blocked rules as Allow adds others.
func (c *Config) Expect(text string) error {
	add, err := flagRules(policy.BlockedRules, text)
	c.Spec.KnownBlocked = append(c.Spec.KnownBlocked, add...)
	return err
}

// flagRules parses the rules of a flag, all or none.
func flagRules(list policy.List, text string) ([]policy.Text, error) {
	var errs policy.Errors
	var add []policy.Text
	for _, field := range policy.Split(text) {
		t := policy.Text{Text: field.Text, Pos: list.Flag()}
		if _, err := policy.Parse(list, t); err != nil {
			var one *policy.Error
			if !errors.As(err, &one) {
				return nil, err
			}
			errs = append(errs, one)
		}
		add = append(add, t)
	}
	if len(add) == 0 {
		errs = append(errs, policy.NewError(list.Flag(), "no rule", "write "+list.Flag()+" HOST:PORT"))
	}
	if len(errs) > 0 {
		return nil, errs
	}
	return add, nil
}
