package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
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

// summaryFile is where a GitHub runner takes the Markdown of a step from.
const summaryFile = "GITHUB_STEP_SUMMARY"

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
	if !b.outputs.has(report.FormatText) {
		b.outputs.reports = append(b.outputs.reports, output{format: report.FormatText, stream: b.streams.err})
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

// openReport says where a report goes. Text and annotations are for whoever
// reads along, JSON is a product, Markdown goes to the job summary where there
// is one; the others are files, and nobody wants to guess their names.
func (b *build) openReport(spec string) (output, error) {
	format, file, hasFile := strings.Cut(spec, "=")
	out := output{format: format, asked: true}
	if err := knownFormat("--report", format); err != nil {
		return out, err
	}
	if hasFile && file == "" {
		return out, usagef("write --report "+format+"=FILE or --report "+format, "--report %q: no file after =", spec)
	}
	if hasFile && file != stdoutName {
		var err error
		out.file, err = openTarget(file, "--report")
		return out, err
	}
	switch {
	case hasFile, format == report.FormatJSON:
		out.stream = b.streams.out
	case format == report.FormatText, format == report.FormatGitHub:
		out.stream = b.streams.err
	case format == report.FormatMarkdown && os.Getenv(summaryFile) != "":
		var err error
		out.file, err = openAppend(os.Getenv(summaryFile), "--report markdown: "+summaryFile)
		return out, err
	default:
		return out, usagef("write --report "+format+"=FILE, or --report "+format+"=- for standard output", "--report %s: no file", format)
	}
	return out, nil
}

func knownFormat(flag, format string) error {
	if !slices.Contains(report.Formats(), format) {
		return usagef("the formats are "+strings.Join(report.Formats(), ", "), "%s: unknown format %q", flag, format)
	}
	return nil
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
	opts := o.streams.options(out.stream)
	opts.PerStep = o.perStep
	render := func(w io.Writer) error { return report.Write(w, out.format, r, opts) }
	if out.file != nil {
		if out.file.append {
			if opts.Room = out.file.room(report.SummaryLimit); opts.Room < summaryRoom {
				// No reason to fail, and GitHub would drop all of it.
				fmt.Fprintf(o.streams.err, "buildcage: warning: %s is full: no summary is added\n", summaryFile)
				return nil
			}
			whole := render
			render = func(w io.Writer) error { // apart from what others wrote
				_, err := io.WriteString(w, "\n")
				return errors.Join(err, whole(w))
			}
			opts.Room--
		}
		return out.file.save(render)
	}
	if out.format == report.FormatText && out.stream == o.streams.err {
		fmt.Fprintln(out.stream) // apart from the progress above
	}
	return render(out.stream)
}

// summaryRoom is what a summary needs to say anything.
const summaryRoom = 4 << 10

// options of a report for a stream; nil: a file.
func (s *streams) options(stream *os.File) report.Options {
	if stream == nil {
		return report.Options{Width: defaultWidth}
	}
	return report.Options{Width: s.width(stream), Color: s.color(stream), Dark: s.dark()}
}
