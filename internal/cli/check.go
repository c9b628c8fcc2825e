package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/check"
	"github.com/buildcage/buildcage/internal/lock"
	"github.com/buildcage/buildcage/internal/policy"
)

// exitDrift is what check, diff and --locked say of a difference.
const exitDrift = 4

// checking is one use of "check".
type checking struct {
	*app
	config     string
	dockerfile string
	lock       string
	accept     []string
	strict     bool
	json       bool
}

// checkResult is what "check --json" prints. It only grows.
type checkResult struct {
	Policy     string          `json:"policy,omitempty"`
	Dockerfile string          `json:"dockerfile,omitempty"`
	Lock       string          `json:"lock,omitempty"`
	Findings   []check.Finding `json:"findings"`
	Errors     int             `json:"errors"`
	Warnings   int             `json:"warnings"`
	Drift      int             `json:"drift"`
}

func (a *app) checkCommand() (*cobra.Command, error) {
	x := &checking{app: a}
	cmd := &cobra.Command{
		Use:   "check [flags] [PATH]",
		Short: "Check the policy, the Dockerfile and the lock; offline, for use before a commit",
		Long: `Check buildcage.yaml, the Dockerfile and buildcage.lock of a build context (by
default the working directory) without an engine and without network: rules
that do not parse or are too wide, rules and entries that change nothing,
options that a cage does not grant, a lock that the rules no longer fit.
Exits with 0, with 2 when there is an error, and with 4 when only the lock
does not fit. docs/checks.md explains every finding.`,
		Args:                  atMostOne,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			return x.run(cmd.OutOrStdout(), first(args, "."))
		},
	}
	f := cmd.Flags()
	f.StringVar(&x.config, "config", "", "Policy `FILE` (default: buildcage.yaml in PATH, then in the working directory)")
	f.StringVarP(&x.dockerfile, "file", "f", "", "Dockerfile `NAME` (default: PATH/Dockerfile, if there is one)")
	f.StringVar(&x.lock, "lock", "", "Lock `FILE` (default: buildcage.lock beside the policy, if there is one)")
	f.StringArrayVar(&x.accept, "accept", nil, "Do not report findings with this `CODE`, or of one rule: \"CODE RULE\"; repeatable")
	f.BoolVar(&x.strict, "strict", false, "Make warnings errors")
	f.BoolVar(&x.json, "json", false, "Print as JSON")
	complete(cmd, "accept", check.Codes()...)
	return cmd, nil
}

func atMostOne(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef(seeHelp(cmd), "one path is expected, got %d arguments", len(args))
	}
	return nil
}

func first(args []string, otherwise string) string {
	if len(args) > 0 {
		return args[0]
	}
	return otherwise
}

func (x *checking) run(w io.Writer, dir string) error {
	in, err := x.input(dir)
	if err != nil {
		return err
	}
	found := check.Run(in)
	result := checkResult{Policy: in.Policy.Name, Dockerfile: in.Dockerfile.Name, Lock: in.Lock.Name, Findings: []check.Finding{}}
	for _, f := range found {
		if x.strict && f.Severity == check.Warning {
			f.Severity = check.Error
		}
		result.Findings = append(result.Findings, f)
		*map[check.Severity]*int{check.Error: &result.Errors, check.Warning: &result.Warnings, check.Drift: &result.Drift}[f.Severity]++
	}
	if x.json {
		err = writeJSON(w, result)
	} else {
		err = writeFindings(w, &result)
	}
	switch {
	case err != nil:
		return err
	case result.Errors > 0:
		return exitError(exitUsage)
	case result.Drift > 0:
		return exitError(exitDrift)
	}
	return nil
}

// input finds the files. A policy or a Dockerfile must be there; a lock need not.
func (x *checking) input(dir string) (in check.Input, err error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return in, usagef("give the build context, and the Dockerfile with -f", "%q is not a directory", dir)
	}
	path, err := policyPath(x.config, dir)
	if err != nil {
		return in, err
	}
	beside := dir
	if path != "" {
		if in.Policy, err = readInput(path, true); err != nil {
			return in, err
		}
		beside = filepath.Dir(path)
	}
	name := x.dockerfile
	if name == "" {
		name = filepath.Join(dir, "Dockerfile")
	}
	if in.Dockerfile, err = readInput(name, x.dockerfile != ""); err != nil {
		return in, err
	}
	name = x.lock
	if name == "" {
		name = filepath.Join(beside, lock.Name)
	}
	if in.Lock, err = readInput(name, x.lock != ""); err != nil {
		return in, err
	}
	for _, text := range x.accept {
		in.Accept = append(in.Accept, policy.Text{Text: text, Pos: "--accept"})
	}
	if in.Policy.Data == nil && in.Dockerfile.Data == nil {
		return in, usagef("name them with --config and -f", "neither buildcage.yaml nor a Dockerfile in %q", dir)
	}
	return in, nil
}

func readInput(name string, needed bool) (check.File, error) {
	data, err := os.ReadFile(name)
	switch {
	case err == nil:
		return check.File{Name: filepath.Clean(name), Data: append([]byte{}, data...)}, nil
	case errors.Is(err, fs.ErrNotExist) && !needed:
		return check.File{}, nil
	}
	return check.File{}, &usageError{msg: fmt.Sprintf("reading %q: %v", name, bare(err)), hint: "name a readable file", err: err}
}

func writeFindings(w io.Writer, r *checkResult) error {
	p := &printer{w: w}
	for _, f := range r.Findings {
		text := f.Message
		if f.Rule != "" {
			text = fmt.Sprintf("rule %q: %s", f.Rule, f.Message)
		}
		p.line("%s: %s: %s [%s]", f.Pos, f.Severity, text, f.Code)
		if f.Hint != "" {
			p.line("    %s", f.Hint)
		}
	}
	var files []string
	for _, name := range []string{r.Policy, r.Dockerfile, r.Lock} {
		if name != "" {
			files = append(files, name)
		}
	}
	if len(r.Findings) == 0 {
		p.line("ok: %s", strings.Join(files, ", "))
		return p.err
	}
	p.line("%s, %s, %d drifted", plural(r.Errors, "error"), plural(r.Warnings, "warning"), r.Drift)
	return p.err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
