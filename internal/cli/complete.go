package cli

import (
	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/history"
)

// complete offers the values of a flag to the shell.
func complete(cmd *cobra.Command, flag string, values ...string) {
	// It fails for a flag that is not there, which the tests of completion see.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completeRuns offers the runs that are kept to the shell, besides files.
func completeRuns(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	store, err := history.Open()
	if err != nil {
		return nil, cobra.ShellCompDirectiveDefault
	}
	runs, _, _ := store.List() // what can't be read is nothing to offer
	var all []cobra.Completion
	for _, r := range runs {
		all = append(all, cobra.CompletionWithDesc(event.Clean(r.ID), oneLine(r.Headline)))
	}
	return all, cobra.ShellCompDirectiveDefault
}
