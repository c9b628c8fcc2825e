package cli

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/term"
)

// streams are the three standard streams and what can be shown on them.
// buildx writes to the process' own, so there are no others.
type streams struct {
	in       *os.File
	out, err *os.File
}

func standard() *streams { return &streams{in: os.Stdin, out: os.Stdout, err: os.Stderr} }

// terminal says that a person watches f.
func terminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// transient says that a line on stderr can be taken back.
func (s *streams) transient() bool {
	return terminal(s.err) && os.Getenv("TERM") != "dumb" && os.Getenv("CI") == ""
}

// color says whether f takes escape sequences: a terminal, outside of CI, and
// nobody said no (no-color.org: any non-empty value counts).
func (s *streams) color(f *os.File) bool {
	return terminal(f) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" && os.Getenv("CI") == ""
}

// dark guesses the background. Asking the terminal would wait for an answer on
// stdin, which may carry the build context.
func (s *streams) dark() bool {
	parts := strings.Split(os.Getenv("COLORFGBG"), ";")
	bg, err := strconv.Atoi(parts[len(parts)-1])
	return err != nil || bg < 7 || bg == 8
}

const defaultWidth = 100

// width of f in columns.
func (s *streams) width(f *os.File) int {
	if n, _, err := term.GetSize(int(f.Fd())); err == nil && n > 0 {
		return n
	}
	if n, err := strconv.Atoi(os.Getenv("COLUMNS")); err == nil && n > 0 {
		return n
	}
	return defaultWidth
}
