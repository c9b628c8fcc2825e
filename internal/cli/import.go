package cli

import (
	"errors"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/config"
	"github.com/buildcage/buildcage/internal/workflow"
)

func (a *app) importCommand() (*cobra.Command, error) {
	var job, output string
	var write bool
	cmd := &cobra.Command{
		Use:   "import [flags] WORKFLOW.yml",
		Short: "Make a policy out of a workflow that uses the public Buildcage action",
		Long: `Read the inputs of the public Buildcage action out of a GitHub workflow
(proxy_mode, allowed_https_rules, allowed_http_rules, allowed_ip_rules,
allowed_tls_rules, known_blocked_rules, fail_on_blocked) and print the policy
that means the same. What does not mean the same here is told with its line,
and stands in the comments of the policy: it is left out, or narrower.`,
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(seeHelp(cmd), "one workflow is expected, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := os.ReadFile(args[0])
			if err != nil {
				return &usageError{msg: "reading the workflow: " + err.Error(), hint: "name a readable file", err: err}
			}
			imported, err := workflow.Import(args[0], data, job)
			if err != nil {
				return &usageError{msg: err.Error(), hint: hintOf(err), err: err}
			}
			return a.imported(cmd.OutOrStdout(), imported, write, output)
		},
	}
	f := cmd.Flags()
	f.StringVar(&job, "job", "", "Take the steps of this `JOB` only")
	f.BoolVar(&write, "write", false, "Write the policy instead of printing it; a file that is there is not touched")
	f.StringVarP(&output, "output", "o", config.Name, "`FILE` that --write writes")
	return cmd, nil
}

func (a *app) imported(w io.Writer, in *workflow.Imported, write bool, output string) error {
	if write {
		if _, err := os.Lstat(output); !errors.Is(err, fs.ErrNotExist) {
			return usagef("remove it, or name another with --output", "%q is there already", output)
		}
		target, err := openTarget(output, "--output")
		if err != nil {
			return err
		}
		if err := target.save(func(w io.Writer) error { _, err := w.Write(in.Text); return err }); err != nil {
			return err
		}
	} else if _, err := w.Write(in.Text); err != nil {
		return err
	}
	for _, n := range in.Notes {
		a.warn(n)
	}
	if write {
		a.note("written to " + output + "; try it: buildcage check, then buildcage build")
	}
	return nil
}
