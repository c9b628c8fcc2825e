package cli

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/docker/cli/cli/command"
	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/doctor"
	"github.com/buildcage/buildcage/internal/image"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/runner"
)

// exitProblem is what doctor says of a machine where a cage can't run.
const exitProblem = 1

// gatherTime bounds how long an engine may take to say who it is.
const gatherTime = 30 * time.Second

func (a *app) doctorCommand() (*cobra.Command, error) {
	var asJSON, quick bool
	cmd := &cobra.Command{
		Use:   "doctor [flags]",
		Short: "Tell whether a cage can run here, and what to do where it can't",
		Long: `Look at the engine and the machine, start a cage and end it again, and tell
what is in the way, with a fix for each. Also tells of an engine whose API is
open to others. Exits with 0, or with 1 when there is a problem.`,
		Args:                  noArgs,
		DisableFlagsInUseLine: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cli, err := command.NewDockerCli()
			if err != nil {
				return err
			}
			engine, err := connect(cmd.Context(), cli, a.streams.in)
			if err != nil {
				return err
			}
			found := a.diagnose(cmd.Context(), engine, quick)
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), map[string]any{"ok": !doctor.Failed(found), "findings": found})
			} else {
				err = writeDiagnosis(cmd.OutOrStdout(), found)
			}
			if err == nil && doctor.Failed(found) {
				return exitError(exitProblem)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&quick, "quick", false, "Do not start a cage")
	cmd.Flags().BoolVar(&asJSON, "json", false, "Print as JSON")
	return cmd, nil
}

func (a *app) diagnose(ctx context.Context, engine *docker.Engine, quick bool) []doctor.Finding {
	asking, cancel := context.WithTimeout(ctx, gatherTime)
	facts := doctor.Gather(asking, engine)
	cancel()
	load := a.image
	if load == nil {
		load = image.Embedded
	}
	img, err := load()
	facts.ImageArch, facts.ImageErr = img.Arch, err
	if !quick && facts.EngineErr == nil && err == nil && img.Arch == facts.Engine.Arch {
		facts.Cage = doctor.Trial{Tried: true, Err: a.trial(ctx, engine)}
	}
	return doctor.Diagnose(facts)
}

// trial starts a cage that builds nothing. It comes up only when its firewall,
// proxy and nameserver passed its own tests.
func (a *app) trial(ctx context.Context, engine *docker.Engine) error {
	result := runner.Run(ctx, runner.Options{
		Engine: engine, Image: a.image, Version: a.versions().Version,
		Policy: policy.Spec{Mode: policy.Restrict}, Hurry: a.interrupt.hurry,
		Build: func(context.Context, runner.Endpoint) error { return nil },
	})
	if result.CageErr == nil && !result.Complete {
		return errors.New(result.Problem)
	}
	return result.CageErr
}

func writeDiagnosis(w io.Writer, found []doctor.Finding) error {
	p := &printer{w: w}
	for _, f := range found {
		p.line("%-8s %-14s %s", f.Status, f.Name, f.Message)
		if f.Fix != "" {
			p.line("%24s%s", "", "→ "+f.Fix)
		}
	}
	return p.err
}
