package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/buildcage/buildcage/internal/buildx"
	"github.com/buildcage/buildcage/internal/history"
	"github.com/buildcage/buildcage/internal/localimage"
	"github.com/buildcage/buildcage/internal/policy"
	"github.com/buildcage/buildcage/internal/runner"
)

// Exit codes. A failed build has buildx's own, usually 1; a report knows its own.
const (
	exitUsage       = 2
	exitCage        = 125
	exitInterrupted = 130
)

// usageError is a command line or configuration that can't be carried out.
type usageError struct {
	msg, hint string
	err       error
}

func (e *usageError) Error() string { return e.msg }
func (e *usageError) Hint() string  { return e.hint }
func (e *usageError) Unwrap() error { return e.err }

func usagef(hint, format string, args ...any) error {
	return &usageError{msg: fmt.Sprintf(format, args...), hint: hint}
}

// exitError is an exit code whose reason has been told already.
type exitError int

func (e exitError) Error() string { return fmt.Sprintf("exit %d", int(e)) }

// exitCode is the one place that gives an error its exit code.
func exitCode(err error) int {
	var told exitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &told):
		return int(told)
	case errors.Is(err, errInterrupted), errors.Is(err, context.Canceled):
		return exitInterrupted
	case is[*usageError](err), is[*buildx.UsageError](err), is[*localimage.InputError](err),
		is[*policy.Error](err), is[*runner.CAError](err), is[*history.Error](err):
		return exitUsage
	}
	return exitCage
}

func is[T error](err error) bool {
	var e T
	return errors.As(err, &e)
}

// fail tells an error and returns its exit code.
func (a *app) fail(err error) int {
	if err != nil && !is[exitError](err) {
		a.tell(err)
	}
	return exitCode(err)
}

// tell writes an error in two lines: what is wrong, and what to do about it.
// A policy may have several.
func (a *app) tell(err error) {
	if errors.Is(err, errInterrupted) {
		fmt.Fprintln(a.streams.err, "buildcage: interrupted")
		return
	}
	var many policy.Errors
	if !errors.As(err, &many) {
		a.tellOne(err)
		return
	}
	for _, one := range many[:min(len(many), maxTold)] {
		a.tellOne(one)
	}
	if n := len(many) - maxTold; n > 0 {
		a.note(fmt.Sprintf("and %d more", n))
	}
}

// maxTold bounds how many errors of one file are told at once.
const maxTold = 20

func (a *app) tellOne(err error) {
	fmt.Fprintf(a.streams.err, "buildcage: error: %s\n", oneLine(err.Error()))
	hint := hintOf(err)
	if hint == "" {
		hint = "run again with --debug to see more"
	}
	fmt.Fprintf(a.streams.err, "buildcage: hint: %s\n", oneLine(hint))
}

// warn tells what is allowed, and may not be meant.
func (a *app) warn(err error) {
	line := oneLine(err.Error())
	if hint := hintOf(err); hint != "" {
		line += ": " + oneLine(hint)
	}
	fmt.Fprintf(a.streams.err, "buildcage: warning: %s\n", line)
}

// note is a line for the person that is neither an error nor a report.
func (a *app) note(line string) {
	fmt.Fprintf(a.streams.err, "buildcage: %s\n", oneLine(line))
}

// hintOf is the hint of the outermost error that has one.
func hintOf(err error) string {
	var h interface{ Hint() string }
	for errors.As(err, &h) {
		if hint := h.Hint(); hint != "" {
			return hint
		}
		// An empty hint must not hide the one of its cause.
		wrapped, ok := h.(interface{ Unwrap() error })
		if !ok {
			return ""
		}
		if err = wrapped.Unwrap(); err == nil {
			return ""
		}
	}
	return ""
}

// oneLine makes text safe for one line of a terminal. Error texts quote what
// files, engines and builds say.
func oneLine(s string) string {
	var b strings.Builder
	for _, r := range strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ") {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r == '\t':
			b.WriteByte(' ')
		case r == '\r':
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
