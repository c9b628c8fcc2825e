package policy

import (
	"fmt"
	"strings"
)

// Error is one thing wrong with a policy.
type Error struct {
	Pos  string // "buildcage.yaml:12:5" or "--allow-https"
	Rule string // the rule as written, empty when the error is not about a rule
	Msg  string
	hint string
}

// NewError returns an error that is not about a rule.
func NewError(pos, msg, hint string) *Error { return &Error{Pos: pos, Msg: msg, hint: hint} }

func (e *Error) Error() string {
	var b strings.Builder
	if e.Pos != "" {
		b.WriteString(e.Pos + ": ")
	}
	if e.Rule != "" {
		fmt.Fprintf(&b, "rule %q: ", e.Rule)
	}
	b.WriteString(e.Msg)
	return b.String()
}

// Hint says in one line what to do about it; it may be empty.
func (e *Error) Hint() string { return e.hint }

// Errors are all the errors of a policy. It is never empty when used as an error.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, one := range e {
		lines[i] = one.Error()
	}
	return strings.Join(lines, "\n")
}

// Hint is the hint of the first error that has one.
func (e Errors) Hint() string {
	for _, one := range e {
		if one.hint != "" {
			return one.hint
		}
	}
	return ""
}

// Unwrap lets errors.As find each single error.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, one := range e {
		errs[i] = one
	}
	return errs
}

// fault is why a rule text does not parse, before it has a position.
type fault struct{ msg, hint string }

func faultf(hint, format string, args ...any) *fault {
	return &fault{msg: fmt.Sprintf(format, args...), hint: hint}
}
