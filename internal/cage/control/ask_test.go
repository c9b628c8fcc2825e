package control_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/control"
)

// Questions and answers pass each other on one request, and the end of the
// answers is told.
func TestAsk(t *testing.T) {
	ended := make(chan struct{})
	c := serve(t, &control.Server{Ask: func(_ context.Context, token string, in io.Reader, out io.Writer) error {
		if token == "" {
			return errors.New("no such build")
		}
		defer close(ended)
		fmt.Fprintln(out, "question of "+token)
		line, err := bufio.NewReader(in).ReadString('\n')
		if err != nil {
			return err
		}
		fmt.Fprint(out, "heard "+line)
		rest, err := io.ReadAll(in)
		if len(rest) > 0 || err != nil {
			t.Errorf("after the answer: %q, %v", rest, err)
		}
		return nil
	}})
	in, answers := io.Pipe()
	questions, out := io.Pipe()
	done := make(chan error, 1)
	go func() { done <- c.Ask(t.Context(), "t1", in, out); out.Close() }()
	lines := bufio.NewScanner(questions)
	for _, want := range []string{"question of t1", "heard yes"} {
		if !lines.Scan() || lines.Text() != want {
			t.Fatalf("%q, want %q", lines.Text(), want)
		}
		if want == "question of t1" {
			fmt.Fprintln(answers, "yes")
		}
	}
	answers.Close()
	<-ended
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := c.Ask(t.Context(), "", strings.NewReader(""), io.Discard); err == nil || !strings.Contains(err.Error(), "no such build") {
		t.Errorf("another build: %v", err)
	}
	nobody := serve(t, &control.Server{})
	if err := nobody.Ask(t.Context(), "t1", strings.NewReader(""), io.Discard); err == nil || !strings.Contains(err.Error(), "asks nobody") {
		t.Errorf("a cage that asks nobody: %v", err)
	}
}
