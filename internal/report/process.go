package report

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/buildcage/buildcage/internal/event"
)

// arrow stands between a process and what it started. What processes call
// themselves is printable ASCII here, so that none can forge it.
const arrow = " → "

// processOf is a process in one line: the chain from the RUN shell down and
// what is not certain about it; the executable where there is no chain.
func processOf(p *event.Process) string {
	if p == nil {
		return ""
	}
	line := strings.Join(p.Chain, arrow)
	if line == "" {
		line = p.Exe
	}
	switch {
	case p.Gone && line != "":
		return line + arrow + "(gone)"
	case p.Gone:
		return "(gone)"
	case p.Note != "" && line != "":
		return line + " (" + p.Note + ")"
	case p.Note != "":
		return "(unknown: " + p.Note + ")"
	}
	return line
}

// processesShown is how many processes one refusal lists on a screen.
const processesShown = 4

// processLines are processes for a person: one line for each, shortened in the
// middle, because the first says which step and the last who it was.
func processLines(list []string, width int) []string {
	var lines []string
	for i, p := range list {
		if i == processesShown {
			return append(lines, end(otherProcesses(len(list)-i), width))
		}
		lines = append(lines, processLine(p, width))
	}
	return lines
}

func otherProcesses(n int) string {
	if n == 1 {
		return "and another process"
	}
	return fmt.Sprintf("and %d other processes", n)
}

func processLine(s string, width int) string {
	parts := strings.Split(s, arrow)
	for i := range parts {
		parts[i] = inert(parts[i])
	}
	line := strings.Join(parts, arrow)
	for keep := len(parts) - 2; utf8.RuneCountInString(line) > width && keep > 0; keep-- {
		line = parts[0] + arrow + string(ellipsis) + arrow + strings.Join(parts[len(parts)-keep:], arrow)
	}
	return middle(line, width)
}
