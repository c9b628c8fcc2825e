package report

import (
	"fmt"
	"io"
)

// Formats that Write knows, as --report names them.
const (
	FormatText     = "text"
	FormatJSON     = "json"
	FormatMarkdown = "markdown"
	FormatSARIF    = "sarif"
	FormatJUnit    = "junit"
	FormatHTML     = "html"
	FormatGitHub   = "github"
)

// Formats are all of them, the one for people first.
func Formats() []string {
	return []string{FormatText, FormatJSON, FormatMarkdown, FormatSARIF, FormatJUnit, FormatHTML, FormatGitHub}
}

// Options of a rendering. Formats pass over what doesn't concern them.
type Options struct {
	Width int  // of a terminal, in columns; less than 80 is taken as 80
	Color bool // false: no escape sequence at all
	Dark  bool // dark background
	// PerStep suggests entries of steps: instead of rules at the top level.
	PerStep bool
	// Room is how many bytes Markdown may have, at most SummaryLimit; 0: that.
	Room int
}

// Write writes r in the given format.
func Write(w io.Writer, format string, r *Report, opts Options) error {
	switch format {
	case FormatText:
		return Text(w, r, opts)
	case FormatJSON:
		return JSON(w, r)
	case FormatMarkdown:
		return Markdown(w, r, opts)
	case FormatSARIF:
		return SARIF(w, r, opts)
	case FormatJUnit:
		return JUnit(w, r, opts)
	case FormatHTML:
		return HTML(w, r, opts)
	case FormatGitHub:
		return GitHub(w, r, opts)
	}
	return fmt.Errorf("rendering the report: no format %q", format)
}

// write passes on what a format made of a report.
func write(w io.Writer, out string) error {
	if _, err := io.WriteString(w, out); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	return nil
}
