package cli

import (
	"fmt"

	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/report"
	"github.com/buildcage/buildcage/internal/runner"
)

// finish tells what a run came to, in the order in which it matters, and
// returns its exit code as an error.
func (b *build) finish(result *runner.Result) error {
	return b.finishAs(result, b.input.Name, b.lines(result))
}

// finishAs is that for the Dockerfile file, whose lines the steps are at.
func (b *build) finishAs(result *runner.Result, file string, lines map[string]int) error {
	in := report.Input{
		Records: result.Records, Complete: result.Complete, Problem: result.Problem,
		Mode: string(b.mode), BuildExit: buildx.Exit(result.BuildErr), Interrupted: result.Interrupted,
		Dockerfile: inRepository(file), File: file, Lines: lines,
		Config: b.policy.path, Started: result.Started, Duration: result.Duration,
		Policy: b.policy.compiled,
	}
	r := report.Build(in)
	code := r.ExitCode(b.flags.failOnBlocked)
	switch {
	case result.Interrupted:
		b.tell(errInterrupted)
	case result.CageErr != nil:
		b.tell(result.CageErr)
		code = exitCode(result.CageErr)
	default:
		b.tellBuild(result.BuildErr, r.Totals.Refusals > 0)
		if !r.Complete {
			b.tell(&hinted{fmt.Errorf("the record of this run is incomplete: %s", r.Problem), "don't rely on its result; run it again"})
		}
	}
	b.keep(in, r, result)
	if err := b.outputs.report(r, result.Built); err != nil {
		b.tell(err)
		code = max(code, exitCage)
	}
	if tip := b.tip(r); tip != "" {
		b.note(tip)
	}
	if r.Outcome == report.Clean || r.Outcome == report.Refused {
		if err := b.writeAllowlist(in); err != nil {
			b.tell(err)
			code = max(code, exitCode(err))
		}
	} else if b.write != nil {
		b.note(fmt.Sprintf("%s is not written: %s", b.write, r.Outcome))
	}
	if b.asker != nil && b.asker.err != nil {
		b.tell(b.asker.err)
		code = max(code, exitCode(b.asker.err))
	}
	code = max(code, b.settleLock(r))
	if code != 0 {
		return exitError(code)
	}
	return nil
}

// tip is for who builds before there is a policy.
func (b *build) tip(r *report.Report) string {
	rules := b.policy.spec.Rules
	given := len(rules.HTTPS) + len(rules.HTTP) + len(rules.TCP) + len(rules.IP)
	if b.mode != policy.Restrict || b.policy.path != "" || given > 0 || r.Totals.Refusals == 0 {
		return ""
	}
	return "without a buildcage.yaml nothing is allowed; buildcage audit --write buildcage.yaml --per-step, with the same arguments, learns one"
}

// tellBuild shows the build's failure as buildx does, then in our two lines.
func (b *build) tellBuild(err error, refused bool) {
	if !buildx.Print(b.streams.err, err) {
		return
	}
	if hintOf(err) == "" {
		hint := "the output of the failed step is above"
		switch {
		case refused:
			hint = "something was refused: see the report"
		case b.buildx.Silent():
			hint = "run again with --progress plain to see the output of the failed step"
		}
		err = &hinted{err, hint}
	}
	b.tell(err)
}

// hinted gives an error of someone else a hint.
type hinted struct {
	error
	hint string
}

func (h *hinted) Hint() string  { return h.hint }
func (h *hinted) Unwrap() error { return h.error }
