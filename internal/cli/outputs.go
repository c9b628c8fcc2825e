package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/buildcage/buildcage/internal/report"
)

// outputs are the reports of a run. Without --report text a report as text goes
// to stderr, as far as the progress mode leaves stderr to people.
type outputs struct {
	reports []output
	streams *streams
	silent  bool
	perStep bool
}

// output is one --report FORMAT[=FILE].
type output struct {
	format string
	file   *target  // nil: a stream
	stream *os.File // nil: file
	asked  bool     // by a flag
}

// stdoutName stands for standard output where a flag takes a file.
const stdoutName = "-"

const (
	formatText = "text"
	formatJSON = "json"
)

// openOutputs checks everything that the run is to write, before it starts.
func (b *build) openOutputs() (err error) {
	b.outputs = &outputs{streams: b.streams, silent: b.buildx.Silent(), perStep: b.flags.perStep}
	stdout := 0
	if b.buildx.Stdout() {
		stdout++
	}
	for _, spec := range b.flags.reports {
		out, err := b.openReport(spec)
		if err != nil {
			return err
		}
		if out.stream == b.streams.out {
			stdout++
		}
		b.outputs.reports = append(b.outputs.reports, out)
	}
	if !b.outputs.has(formatText) {
		b.outputs.reports = append(b.outputs.reports, output{format: formatText, stream: b.streams.err})
	}
	switch b.flags.write {
	case "":
	case stdoutName:
		stdout++
		b.write = &target{path: stdoutName}
	default:
		if b.write, err = openTarget(b.flags.write, "--write"); err != nil {
			return err
		}
	}
	if stdout > 1 {
		return usagef("give one of them a file, for example --report json=report.json", "two things would be written to standard output")
	}
	return nil
}

func (b *build) openReport(spec string) (output, error) {
	format, file, hasFile := strings.Cut(spec, "=")
	out := output{format: format, asked: true}
	if format != formatText && format != formatJSON {
		return out, usagef("the formats are text and json", "--report: unknown format %q", format)
	}
	switch {
	case hasFile && file == "":
		return out, usagef("write --report "+format+"=FILE or --report "+format, "--report %q: no file after =", spec)
	case file == stdoutName, !hasFile && format == formatJSON:
		out.stream = b.streams.out
	case !hasFile:
		out.stream = b.streams.err
	default:
		var err error
		if out.file, err = openTarget(file, "--report"); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (o *outputs) has(format string) bool {
	for _, r := range o.reports {
		if r.format == format {
			return true
		}
	}
	return false
}

// report writes all reports; built is false when there was no build to report
// on. A failure of one does not keep the others from being written.
func (o *outputs) report(r *report.Report, built bool) error {
	var errs []error
	for i := range o.reports {
		out := &o.reports[i]
		if !out.asked && !o.wanted(r, built) {
			continue
		}
		if err := o.write(out, r); out.asked { // else nobody listens any more
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// wanted says whether a report that nobody asked for is worth showing.
func (o *outputs) wanted(r *report.Report, built bool) bool {
	switch {
	case !built, r.Outcome == report.Interrupted:
		return false
	case o.silent:
		return r.Outcome == report.Incomplete || r.Totals.Refusals > 0
	}
	return true
}

func (o *outputs) write(out *output, r *report.Report) error {
	render := func(w io.Writer) error { return report.JSON(w, r) }
	if out.format == formatText {
		opts := report.Options{Width: defaultWidth}
		if out.stream != nil {
			opts = report.Options{Width: o.streams.width(out.stream), Color: o.streams.color(out.stream), Dark: o.streams.dark()}
		}
		opts.PerStep = o.perStep
		render = func(w io.Writer) error { return report.Text(w, r, opts) }
	}
	if out.file != nil {
		return out.file.save(render)
	}
	if out.format == formatText && out.stream == o.streams.err {
		fmt.Fprintln(out.stream) // apart from the progress above
	}
	return render(out.stream)
}
