package cli

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes manual pages, for packages. SOURCE_DATE_EPOCH dates them.
func (a *app) manCommand() (*cobra.Command, error) {
	return &cobra.Command{
		Use:    "man DIR",
		Short:  "Write manual pages into a directory",
		Hidden: true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef(seeHelp(cmd), "one directory is expected, got %d arguments", len(args))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return &usageError{msg: "making the directory: " + err.Error(), hint: "name a directory that can be written", err: err}
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same pages for the same program
			header := &doc.GenManHeader{Section: "1", Source: "buildcage " + a.versions().Version, Manual: "buildcage"}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("writing manual pages: %w", err)
			}
			return nil
		},
	}, nil
}
