package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"github.com/buildcage/buildcage/internal/contract"
)

// Stream is one of caged's own commands running in the cage: Read is its
// standard output, Write its standard input, CloseWrite the end of that. Close does
// not wait for the command; it breaks it off.
type Stream struct {
	in      *io.PipeWriter
	out     io.ReadCloser // nil: it has not begun
	trailer *http.Header  // filled in at the end of out
	cancel  context.CancelFunc
}

// Exec starts "caged command args…" in the cage. ctx bounds the start only.
func (c *Cage) Exec(ctx context.Context, command string, args ...string) (*Stream, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, cancel)
	r, w := io.Pipe()
	s := &Stream{in: w, cancel: cancel}
	err := c.begin().start(life, s, r, command, args)
	if !stop() {
		err = context.Cause(ctx)
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("starting %q in the cage: %w", command, err)
	}
	return s, nil
}

func (s *Stream) Read(p []byte) (int, error)  { return s.out.Read(p) }
func (s *Stream) Write(p []byte) (int, error) { return s.in.Write(p) }

// CloseWrite ends the command's standard input.
func (s *Stream) CloseWrite() error { return s.in.Close() }

// Close breaks the command off, unless it has ended.
func (s *Stream) Close() error {
	s.cancel()
	_ = s.in.CloseWithError(errors.New("broken off"))
	if s.out == nil {
		return nil
	}
	return s.out.Close()
}

// Wait returns nil when the command, whose output must have been read to its
// end, has exited with 0. Its error carries what the command said.
func (s *Stream) Wait(context.Context) error {
	code, err := strconv.Atoi(s.trailer.Get(contract.SessionExit))
	switch text := oneLine(printable(s.trailer.Get(contract.SessionError))); {
	case err != nil:
		return errors.New("the cage broke it off")
	case code == 0:
		return nil
	case text != "":
		return fmt.Errorf("exit code %d: %s", code, clip(text))
	}
	return fmt.Errorf("exit code %d", code)
}

// Run runs one of caged's own commands to its end and drops its output.
func (c *Cage) Run(ctx context.Context, command string, args ...string) error {
	s, err := c.Exec(ctx, command, args...)
	if err != nil {
		return err
	}
	defer s.Close()
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	s.CloseWrite()
	if _, err := io.Copy(io.Discard, s); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return fmt.Errorf("running %q: %w", command, err)
	}
	if err := s.Wait(ctx); err != nil {
		return fmt.Errorf("running %q: %w", command, err)
	}
	return nil
}
