package policy

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Place is where an instruction that becomes a step stands in the Dockerfile.
// Only the host reads that; the places let the cage find the line of a step,
// which its build does not tell before the step runs.
type Place struct {
	Line  int    `json:"line"`
	Stage string `json:"stage,omitempty"` // as the build names it; empty in a Dockerfile of one unnamed stage
	// Digest is that of the command, empty where it is not known before it runs.
	Digest string `json:"digest,omitempty"`
}

// PlaceOf is the place of a command; empty: not known.
func PlaceOf(line int, stage, command string) Place {
	return Place{Line: line, Stage: stage, Digest: commandDigest(command)}
}

// commandDigest does not mind white space: continued lines are joined.
func commandDigest(command string) string {
	text := strings.Join(strings.Fields(command), " ")
	if text == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// SelectsLines says that the spec selects steps by their lines, and so needs Places.
func (s *Spec) SelectsLines() bool {
	return slices.ContainsFunc(s.Steps, func(e StepSpec) bool { return e.Lines != "" })
}

// Idle are the entries whose lines have no place: they select no step.
func (p *Policy) Idle() (list []StepSpec) {
	for _, e := range p.steps {
		if e.lines.from != 0 && !slices.ContainsFunc(p.spec.Places, func(at Place) bool { return e.lines.from <= at.Line && at.Line <= e.lines.to }) {
			list = append(list, *e.spec)
		}
	}
	return list
}

// line is the line of a step: that of the only instruction that it can be, 0
// where several can, or none.
func (p *Policy) line(s Step) int {
	if s.Line != 0 || s.Command == "" {
		return s.Line
	}
	digest, found := commandDigest(s.Command), 0
	for _, place := range p.spec.Places {
		other := place.Digest != "" && place.Digest != digest
		if other || s.Stage != "" && lower(place.Stage) != lower(s.Stage) {
			continue
		}
		if found != 0 && found != place.Line {
			return 0
		}
		found = place.Line
	}
	return found
}
