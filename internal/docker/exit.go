package docker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moby/moby/client"
)

// Exit is how a cage ended.
type Exit struct {
	Code int    // of PID 1; -1 when the engine could not say
	Text string // what the cage said last about itself, one line; may be empty
	Tip  string // the cage's hint; may be empty
	Log  string // the last diagnostics
	Err  error  // why the engine could not say; may be nil
}

func (x Exit) Error() string {
	switch {
	case x.Text != "":
		return fmt.Sprintf("the cage stopped: %s", x.Text)
	case x.Err != nil:
		return fmt.Sprintf("the engine lost sight of the cage: %s", oneLine(x.Err.Error()))
	case x.Code == 137:
		return "the cage was killed (exit code 137)"
	}
	return fmt.Sprintf("the cage stopped with exit code %d", x.Code)
}

// Hint is what the person can do about it.
func (x Exit) Hint() string {
	switch {
	case x.Tip != "":
		return x.Tip
	case x.Code == 137:
		return "somebody removed the container, or the machine ran out of memory"
	}
	return "run again with --debug to see the cage's diagnostics"
}

// Done is closed when the cage has ended, for whatever reason.
func (c *Cage) Done() <-chan struct{} { return c.done }

// Exit says how the cage ended. It is valid once Done is closed.
func (c *Cage) Exit() Exit { return c.exit }

// drainTime is how long the last words of a cage that has ended may take.
const drainTime = 2 * time.Second

// watch waits for the end of the container, then for the rest of its output.
func (c *Cage) watch(wait client.ContainerWaitResult) {
	defer close(c.done)
	exit := Exit{Code: -1}
	select {
	case result := <-wait.Result:
		exit.Code = int(result.StatusCode)
		if result.Error != nil && result.Error.Message != "" {
			exit.Err = errors.New(result.Error.Message)
		}
	case exit.Err = <-wait.Error:
		c.attach.close()
	}
	select {
	case <-c.attach.ended:
	case <-time.After(drainTime):
		c.attach.close()
		<-c.attach.ended
	}
	exit.Text, exit.Tip = c.attach.lastFailure()
	exit.Log = c.attach.log.String()
	c.exit = exit
}

// BootError is a cage that did not become ready.
type BootError struct {
	Text string
	Tip  string
	Log  string // the tail of caged's diagnostics, printable, many lines
	Err  error
}

func (e *BootError) Error() string { return "the cage did not start: " + e.Text }
func (e *BootError) Unwrap() error { return e.Err }

// Hint is what the person can do about it.
func (e *BootError) Hint() string {
	if e.Tip != "" {
		return e.Tip
	}
	return "run again with --debug to see the cage's diagnostics"
}

// Diagnostics are the last lines that the cage wrote.
func (e *BootError) Diagnostics() string { return e.Log }

type slowBoot struct{ limit time.Duration }

func (e *slowBoot) Error() string { return fmt.Sprintf("it was not ready after %s", e.limit) }

// bootError adds what the cage itself said. A cancelled boot stays a
// cancelled context.
func (c *Cage) bootError(err error) error {
	var slow *slowBoot
	if errors.Is(err, context.Canceled) && !errors.As(err, &slow) {
		return err
	}
	var failed *failedError
	if errors.Is(err, errStopped) || errors.As(err, &failed) {
		select { // it is going down: let it finish speaking
		case <-c.done:
		case <-time.After(drainTime):
		}
	}
	boot := &BootError{Text: oneLine(err.Error()), Err: err, Log: c.attach.log.String()}
	select {
	case <-c.done:
		boot.Text = c.exit.Error()
	default:
	}
	if text, tip := c.attach.lastFailure(); text != "" {
		boot.Text, boot.Tip = text, tip
	}
	return boot
}

// failedError is a cage that said that it failed.
type failedError struct{ text string }

func (e *failedError) Error() string { return e.text }
