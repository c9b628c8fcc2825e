package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// seeHelp is the hint of a mistyped command line.
func seeHelp(cmd *cobra.Command) string { return "see " + cmd.CommandPath() + " --help" }

// flagError makes pflag's errors usage errors.
func flagError(cmd *cobra.Command, err error) error {
	return &usageError{msg: err.Error(), hint: seeHelp(cmd), err: err}
}

func unknownCommand(cmd *cobra.Command, name string) error {
	hint := seeHelp(cmd)
	if similar := cmd.SuggestionsFor(name); len(similar) > 0 {
		hint = "did you mean " + strings.Join(similar, " or ") + "?"
	}
	return usagef(hint, "unknown command %q", name)
}

func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef(seeHelp(cmd), "%s takes no argument, got %q", cmd.CommandPath(), args[0])
	}
	return nil
}

// oneContext wants exactly the build context. A second argument is most often
// the value of a flag that takes none.
func oneContext(cmd *cobra.Command, args []string) error {
	switch len(args) {
	case 0:
		return usagef("give the build context as the last argument, for example: "+cmd.CommandPath()+" .", "no build context")
	case 1:
		if args[0] == "" {
			return usagef("give a directory, a URL or - as the last argument", "the build context is empty")
		}
		return nil
	}
	return usagef("flags come before it; see "+cmd.CommandPath()+" --help", "one build context is expected, got %d arguments: %s", len(args), strings.Join(args, " "))
}

// help prints our flags before buildx's own hundred lines.
func help(ours, theirs *pflag.FlagSet, width func() int) func(*cobra.Command, []string) {
	return func(cmd *cobra.Command, _ []string) {
		w := cmd.OutOrStdout()
		columns := width()
		fmt.Fprintf(w, "%s\n\nUsage:\n  %s\n\nCage flags:\n%s\nBuild flags, as in docker buildx build:\n%s",
			cmd.Long, cmd.UseLine(), ours.FlagUsagesWrapped(columns), theirs.FlagUsagesWrapped(columns))
	}
}
