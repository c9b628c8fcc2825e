package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/buildcage/buildcage/internal/history"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
	"github.com/buildcage/buildcage/internal/runner"
)

// historyVariable can say that runs are not to be kept.
const (
	historyVariable = "BUILDCAGE_HISTORY"
	historyOff      = "off"
)

// keep stores the run for "buildcage report". A build never fails for it.
func (b *build) keep(in report.Input, r *report.Report, result *runner.Result) {
	if !result.Built || os.Getenv(historyVariable) == historyOff {
		return
	}
	store, err := history.Open()
	if err == nil {
		err = store.Save(&history.Run{Records: in.Records, Facts: history.Facts{
			ID: result.RunID, Mode: in.Mode, Outcome: string(r.Outcome), Headline: report.Headline(r),
			Complete: in.Complete, Problem: in.Problem, BuildExit: in.BuildExit, Interrupted: in.Interrupted,
			Config: in.Config, Dockerfile: in.Dockerfile, File: in.File, Lines: in.Lines, PerStep: b.flags.perStep,
			Policy: &b.policy.spec, Started: in.Started, Duration: in.Duration,
		}})
	}
	if err != nil {
		b.warn(err)
	}
}

// kept is the report of a kept run, as it was when the run ended.
func kept(run *history.Run) (*report.Report, error) {
	in := report.Input{
		Records: run.Records, Complete: run.Complete, Problem: run.Problem, Mode: run.Mode,
		BuildExit: run.BuildExit, Interrupted: run.Interrupted, Config: run.Config,
		Dockerfile: run.Dockerfile, File: run.File, Lines: run.Lines, Started: run.Started, Duration: run.Duration,
	}
	if run.Policy != nil {
		var err error
		if in.Policy, err = policy.Compile(*run.Policy); err != nil {
			return nil, err
		}
	}
	return report.Build(in), nil
}

// inRepository is the path of a Dockerfile as a repository knows it: from the
// workspace of a GitHub runner, else from the working directory. Empty for
// what is no file.
func inRepository(name string) string {
	if info, err := os.Stat(name); name == "" || err != nil || info.IsDir() {
		return ""
	}
	base := os.Getenv("GITHUB_WORKSPACE")
	if base == "" {
		base, _ = os.Getwd()
	}
	full, err := filepath.Abs(name)
	if err != nil {
		return filepath.ToSlash(name)
	}
	if rel, err := filepath.Rel(base, full); err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return filepath.ToSlash(rel)
	}
	return filepath.ToSlash(full)
}
