package cli

import (
	"bytes"
	"os"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/lock"
)

// Formats of diff.
const (
	diffText     = "text"
	diffJSON     = "json"
	diffMarkdown = "markdown"
)

func (a *app) diffCommand() (*cobra.Command, error) {
	var format string
	cmd := &cobra.Command{
		Use:   "diff [flags] A B",
		Short: "Compare what two runs or locks reach",
		Long: `Compare what two builds reach, step by step. A and B are runs that are kept
(the beginning of an id from buildcage report --list), files of --report json
or --events, or locks. Exits with 0 when B reaches what A does, with 4 when it
does not. What the builder fetches and what was refused counts between two
runs; a lock says nothing of it.`,
		Example: `  buildcage diff buildcage.lock report.json
  buildcage diff --format markdown old/buildcage.lock buildcage.lock`,
		DisableFlagsInUseLine: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 2 {
				return usagef(seeHelp(cmd), "two runs or files are expected, got %d", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			before, err := a.egress(args[0])
			if err != nil {
				return err
			}
			after, err := a.egress(args[1])
			if err != nil {
				return err
			}
			d := lock.Compare(args[0], before, args[1], after)
			switch format {
			case diffText:
				err = d.Text(cmd.OutOrStdout())
			case diffMarkdown:
				err = d.Markdown(cmd.OutOrStdout())
			case diffJSON:
				err = writeJSON(cmd.OutOrStdout(), d)
			default:
				return usagef("the formats are text, json and markdown", "--format: unknown format %q", format)
			}
			if err == nil && !d.Same {
				return exitError(exitDrift)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&format, "format", diffText, "`FORMAT` of the answer: text, json, markdown")
	complete(cmd, "format", diffText, diffJSON, diffMarkdown)
	cmd.ValidArgsFunction = completeRuns
	return cmd, nil
}

// egress is what a kept run, a report, a record or a lock says.
func (a *app) egress(arg string) (*lock.Lock, error) {
	if data, err := os.ReadFile(arg); err == nil && !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return lock.Parse(arg, data)
	}
	r, err := (&past{app: a}).find(arg)
	if err != nil {
		return nil, err
	}
	if !r.Complete {
		a.warn(usagef("what it does not list may have happened too", "%s is incomplete", arg))
	}
	return lock.Of(r), nil
}
