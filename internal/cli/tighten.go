package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
	"github.com/buildcage/buildcage/internal/tighten"
)

// tightening is one use of "tighten".
type tightening struct {
	*app
	config string
	write  bool
	prove  bool

	path string // of the policy
	data []byte
}

func (a *app) tightenCommand() (*cobra.Command, error) {
	x := &tightening{app: a}
	cmd := &cobra.Command{
		Use:   "tighten [flags] [RUN | FILE]… [-- BUILD ARGUMENTS]",
		Short: "Propose a smaller policy: without what runs did not use",
		Long: `Propose a smaller policy as a unified diff: rules that no run used go, rules
that others cover go, and rules that are wider than their use become the
destinations that were used. The runs are those that are kept (by default the
latest; see buildcage report --list) or files of --report json or --events;
give all that the policy is for. --prove builds with the proposal, every step
afresh, with the arguments behind -- (by default the working directory), and
exits as that build does. --write replaces the file; with --prove only when
the build was green.`,
		Example: `  buildcage tighten
  buildcage tighten --prove --write -- --build-arg X=1 .`,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			runs, build := args, []string{"."}
			if at := cmd.ArgsLenAtDash(); at >= 0 {
				runs, build = args[:at], args[at:]
			}
			if len(build) > 0 && len(args) > len(runs) && !x.prove {
				return usagef("add --prove", "arguments of a build, but nothing to prove")
			}
			return x.run(cmd.Context(), cmd.OutOrStdout(), runs, build)
		},
	}
	f := cmd.Flags()
	f.StringVar(&x.config, "config", "", "Policy `FILE` (default: buildcage.yaml in the working directory)")
	f.BoolVar(&x.write, "write", false, "Replace the file by the proposal")
	f.BoolVar(&x.prove, "prove", false, "Build with the proposal, from cold, and tell whether it is enough")
	cmd.ValidArgsFunction = completeRuns
	return cmd, nil
}

func (x *tightening) run(ctx context.Context, w io.Writer, ids, build []string) error {
	p, err := x.propose(ids)
	if err != nil {
		return err
	}
	for _, c := range p.Changes {
		x.note(c.String())
	}
	for _, n := range p.Notes {
		x.note(n)
	}
	if len(p.Changes) == 0 {
		x.note(x.path + " is as small as these runs say")
		return nil
	}
	out := &printer{w: w}
	for _, line := range bytes.Split(bytes.TrimSuffix(diff.Diff(x.path, x.data, x.path, p.Text), []byte("\n")), []byte("\n")) {
		out.line("%s", line)
	}
	if out.err != nil {
		return out.err
	}
	if x.prove {
		if err := x.proof(ctx, p.Text, build); err != nil {
			return err
		}
	}
	if !x.write {
		return nil
	}
	target, err := openTarget(x.path, "--write")
	if err != nil {
		return err
	}
	if err := target.save(func(w io.Writer) error { _, err := w.Write(p.Text); return err }); err != nil {
		return err
	}
	x.note("written to " + x.path)
	return nil
}

// propose reads the policy and the runs.
func (x *tightening) propose(ids []string) (*tighten.Proposal, error) {
	var err error
	if x.path, err = policyPath(x.config, ""); err != nil {
		return nil, err
	}
	if x.path == "" {
		return nil, usagef("name the policy with --config", "no %s here", config.Name)
	}
	if x.data, err = os.ReadFile(x.path); err != nil {
		return nil, unreadable(err)
	}
	if len(ids) == 0 {
		ids = []string{""}
	}
	var runs []*report.Report
	for _, id := range ids {
		r, err := (&past{app: x.app}).find(id)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
	}
	return tighten.Propose(x.path, x.data, runs)
}

// proof builds with the proposal. It stands beside the policy while that lasts:
// files that it names are found from there.
func (x *tightening) proof(ctx context.Context, text []byte, args []string) error {
	f, err := os.CreateTemp(filepath.Dir(x.path), "."+filepath.Base(x.path)+".")
	if err != nil {
		return fmt.Errorf("writing the proposal: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(text)
	if err == nil {
		err = f.Close()
	}
	if err != nil {
		return fmt.Errorf("writing the proposal: %w", err)
	}
	cmd, err := x.newBuild(policy.Restrict, &cobra.Command{Use: "build", SilenceErrors: true, SilenceUsage: true})
	if err != nil {
		return err
	}
	cmd.SetFlagErrorFunc(flagError)
	cmd.SetArgs(append([]string{"--config", f.Name(), "--no-cache", "--output", "type=cacheonly"}, args...))
	x.note("building with the proposal, every step afresh")
	if err := cmd.ExecuteContext(ctx); err != nil {
		x.note("red: the proposal is not enough, or the build fails without it too; " + x.path + " is unchanged")
		return err
	}
	x.note("green: the proposal is enough for this build")
	return nil
}
