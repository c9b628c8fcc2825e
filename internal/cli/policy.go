package cli

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/policy"
)

// policyFile is the policy of a run and where it comes from.
type policyFile struct {
	path     string // empty: flags only
	spec     policy.Spec
	compiled *policy.Policy
	extraCA  []string
}

// loadPolicy reads the configuration and adds the flags.
func (b *build) loadPolicy() error {
	path, err := b.configPath()
	if err != nil {
		return err
	}
	cfg := config.Default()
	if path != "" {
		data, err := os.ReadFile(path)
		if err != nil {
			return &usageError{msg: "reading the policy: " + err.Error(), hint: "--config names a readable file", err: err}
		}
		if cfg, err = config.Load(path, data); err != nil {
			return err
		}
	}
	for list, texts := range map[policy.List][]string{
		policy.HTTPSRules: b.flags.https, policy.HTTPRules: b.flags.http,
		policy.TCPRules: b.flags.tcp, policy.IPRules: b.flags.ip,
	} {
		for _, text := range texts {
			if err := cfg.Allow(list, text); err != nil {
				return err
			}
		}
	}
	for _, text := range b.flags.knownBlocked {
		if err := cfg.Expect(text); err != nil {
			return err
		}
	}
	if b.mode == policy.Audit {
		cfg.Spec.Mode = policy.Audit
	}
	compiled, err := policy.Compile(cfg.Spec)
	if err != nil {
		return err
	}
	for _, w := range compiled.Warnings() {
		b.warn(w)
	}
	b.policy = &policyFile{path: path, spec: cfg.Spec, compiled: compiled, extraCA: besides(path, cfg.ExtraCA)}
	return nil
}

// configPath is the policy file, empty for none. An audit that writes a file
// reads that one: what it adds is then all that the file lacks.
func (b *build) configPath() (string, error) {
	switch {
	case b.flags.config != "":
		return b.flags.config, nil
	case b.flags.write != "" && b.flags.write != stdoutName:
		if _, err := os.Stat(b.flags.write); errors.Is(err, fs.ErrNotExist) {
			return "", nil
		}
		return b.flags.write, nil
	}
	work, err := os.Getwd()
	if err != nil {
		work = ""
	}
	path, err := config.Find(b.input.Local, work)
	if err != nil {
		return "", err
	}
	if rel, err := filepath.Rel(work, path); path != "" && err == nil && filepath.IsLocal(rel) {
		path = rel // shorter in messages
	}
	return path, nil
}

// besides makes paths relative to a file's directory.
func besides(file string, paths []string) []string {
	var out []string
	for _, p := range paths {
		if !filepath.IsAbs(p) {
			p = filepath.Join(filepath.Dir(file), p)
		}
		out = append(out, p)
	}
	return out
}
