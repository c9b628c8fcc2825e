package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/history"
	"github.com/buildcage/buildcage/internal/report"
)

// past is one use of "report".
type past struct {
	*app
	format  string
	output  string
	list    bool
	perStep bool
}

func (a *app) reportCommand() (*cobra.Command, error) {
	p := &past{app: a}
	cmd := &cobra.Command{
		Use:   "report [flags] [RUN | FILE]",
		Short: "Show the report of an earlier run again",
		Long: `Show the report of an earlier run again, in any format: the latest run, the
one whose id begins with RUN, or what a FILE holds: a JSON report, or a record
that --events kept. A file wins over a run of the same name. The report goes
to stdout.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef(seeHelp(cmd), "one run or file is expected, got %d", len(args))
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error { return p.run(strings.Join(args, "")) },
	}
	flags := cmd.Flags()
	flags.StringVar(&p.format, "format", report.FormatText, "`FORMAT` of the report: "+strings.Join(report.Formats(), ", "))
	flags.StringVarP(&p.output, "output", "o", stdoutName, "Write to `FILE` instead of stdout")
	flags.BoolVar(&p.list, "list", false, "List the runs that are kept, the latest first")
	flags.BoolVar(&p.perStep, "per-step", false, "Suggest rules for each command, as audit --per-step does")
	complete(cmd, "format", report.Formats()...)
	cmd.ValidArgsFunction = completeRuns
	return cmd, nil
}

func (p *past) run(arg string) error {
	if err := knownFormat("--format", p.format); err != nil {
		return err
	}
	out := output{format: p.format, stream: p.streams.out}
	if p.output != stdoutName {
		var err error
		if out.file, err = openTarget(p.output, "--output"); err != nil {
			return err
		}
		out.stream = nil
	}
	if p.list {
		if p.format != report.FormatText && p.format != report.FormatJSON {
			return usagef("the formats of a list are text and json", "--list: no format %q", p.format)
		}
		return p.table(&out)
	}
	r, err := p.find(arg)
	if err != nil {
		return err
	}
	return (&outputs{streams: p.streams, perStep: p.perStep}).write(&out, r)
}

// find returns the report of a file or of a kept run.
func (p *past) find(arg string) (*report.Report, error) {
	if info, err := os.Stat(arg); arg != "" && err == nil && !info.IsDir() {
		return readReport(arg)
	}
	store, err := history.Open()
	if err != nil {
		return nil, err
	}
	run, err := store.Load(arg)
	if err != nil {
		return nil, err
	}
	p.perStep = p.perStep || run.PerStep
	return kept(run)
}

// readReport reads a JSON report, or sums up a record.
func readReport(path string) (*report.Report, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, usagef("name a file that can be read", "reading the report: %v", err)
	}
	var head struct {
		Schema string `json:"schema"`
		Kind   string `json:"kind"`
	}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(&head); err != nil || head.Schema == "" && head.Kind == "" {
		return nil, usagef("give a file of --report json or --events, or an id of buildcage report --list", "%q is neither a report nor a record", path)
	}
	if head.Schema != "" {
		r, err := report.Read(data)
		if err != nil {
			return nil, usagef("give a file of --report json", "%q: %v", path, err)
		}
		return r, nil
	}
	records, err := event.ReadAll(bytes.NewReader(data))
	in := report.Input{Records: records, Complete: err == nil}
	if err != nil {
		in.Problem = err.Error()
	}
	return report.Build(in.Alone()), nil
}

// table lists the runs that are kept.
func (p *past) table(out *output) error {
	store, err := history.Open()
	if err != nil {
		return err
	}
	runs, damaged, err := store.List()
	if err != nil {
		return err
	}
	if damaged > 0 {
		p.warn(errors.New(files(damaged) + " in " + store.Dir + " can't be read"))
	}
	render := func(w io.Writer) error { return listRuns(w, runs) }
	if p.format == report.FormatJSON {
		render = func(w io.Writer) error { return listJSON(w, runs) }
	}
	if out.file != nil {
		return out.file.save(render)
	}
	return render(out.stream)
}

func files(n int) string {
	if n == 1 {
		return "1 file"
	}
	return fmt.Sprintf("%d files", n)
}

func listRuns(w io.Writer, runs []history.Facts) error {
	for _, f := range runs {
		if _, err := fmt.Fprintf(w, "%-16s  %s  %s\n", oneLine(f.ID), f.Started.Local().Format("2006-01-02 15:04"), oneLine(f.Headline)); err != nil {
			return fmt.Errorf("listing runs: %w", err)
		}
	}
	return nil
}

// listed is an entry of report --list --format json. It only grows.
type listed struct {
	ID         string `json:"id"`
	Started    string `json:"started"`
	DurationMS int64  `json:"duration_ms"`
	Mode       string `json:"mode"`
	Outcome    string `json:"outcome"`
	Dockerfile string `json:"dockerfile,omitempty"`
}

func listJSON(w io.Writer, runs []history.Facts) error {
	list := []listed{}
	for _, f := range runs {
		list = append(list, listed{f.ID, f.Started.UTC().Format("2006-01-02T15:04:05Z"), f.Duration.Milliseconds(), f.Mode, f.Outcome, event.Clean(f.Dockerfile)})
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	if err := enc.Encode(list); err != nil {
		return fmt.Errorf("listing runs: %w", err)
	}
	return nil
}
