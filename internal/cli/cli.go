// Package cli is the command line: cobra commands, flags to options, errors to
// text and exit code. It decides nothing about a build.
//
// What the person sees, and where:
//
//	stderr  progress and messages of buildx; "buildcage: error: CAUSE" and
//	        "buildcage: hint: WHAT TO DO", always these two lines; "buildcage:
//	        warning: WHAT" for rules wider than most people mean; the report as text
//	stdout  the product, and only when asked for: an image id (-q), an exported
//	        archive, --report json, the allowlist (--write -)
//
// Exit codes are those of the design, decided in code.go and nowhere else.
package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/image"
	"github.com/buildcage/buildcage/internal/plugin"
)

// Main runs the program and returns its exit code. version is what the linker
// stamped in; empty for a plain go build.
func Main(version string) int {
	a := &app{streams: standard(), version: version}
	if plugin.Called(os.Args[0]) {
		return a.plugin(os.Args[1:])
	}
	return a.main(context.Background(), os.Args[1:])
}

// app is what all commands share.
type app struct {
	streams   *streams
	version   string
	name      string                      // as a person calls it; empty: buildcage
	image     func() (image.Image, error) // nil: the embedded one
	interrupt *interrupt
}

func (a *app) main(ctx context.Context, args []string) int {
	buildx.NoDesktop()
	interrupt, stop := catch(ctx)
	defer stop()
	a.interrupt = interrupt
	return a.run(interrupt.ctx, args)
}

func (a *app) run(ctx context.Context, args []string) int {
	root, err := a.root()
	if err == nil {
		root.SetArgs(args)
		err = root.ExecuteContext(ctx)
	}
	return a.fail(err)
}

// root is the whole command tree.
func (a *app) root() (*cobra.Command, error) {
	root := &cobra.Command{
		Use:   "buildcage",
		Short: "docker build in a cage: steps reach only what the allowlist names",
		Long: `buildcage build is docker build in a cage: every RUN step reaches only the
destinations that the allowlist names, everything else is refused, and every
attempt is recorded. buildcage audit lets the build through, records where it
went, and writes the allowlist.`,
		SilenceErrors:              true,
		SilenceUsage:               true,
		SuggestionsMinimumDistance: 2,
		Args:                       cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	if a.name != "" {
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: a.name}
	}
	root.SetIn(a.streams.in)
	root.SetOut(a.streams.out)
	root.SetErr(a.streams.err)
	root.SetFlagErrorFunc(flagError)
	for _, make := range a.commands() {
		cmd, err := make()
		if err != nil {
			return nil, err
		}
		root.AddCommand(cmd)
	}
	return root, nil
}

// commands make the commands.
func (a *app) commands() []func() (*cobra.Command, error) {
	return []func() (*cobra.Command, error){
		a.buildCommand,
		a.auditCommand,
		a.bakeCommand,
		a.reportCommand,
		a.checkCommand,
		a.explainCommand,
		a.diffCommand,
		a.tightenCommand,
		a.importCommand,
		a.fmtCommand,
		a.upCommand,
		a.downCommand,
		a.lsCommand,
		a.logsCommand,
		a.envCommand,
		a.pruneCommand,
		a.doctorCommand,
		a.installPluginCommand,
		a.manCommand,
		a.versionCommand,
	}
}
