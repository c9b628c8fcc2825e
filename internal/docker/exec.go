package docker

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"path"
	"time"

	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
)

// Stream is one of caged's own commands running in the cage, as a connection:
// Read is its standard output, Write its standard input, CloseWrite the end of
// that. Its standard error is kept for Wait. Close does not wait for the command;
// the end of its input is its sign to go.
type Stream struct {
	net.Conn
	engine *Engine
	id     string
	hijack client.HijackedResponse
	out    *demux
	stderr *tail
}

// Exec starts "caged command args…" in the cage. ctx bounds the start only.
func (c *Cage) Exec(ctx context.Context, command string, args ...string) (*Stream, error) {
	api := c.engine.Client
	argv := append([]string{path.Join(contract.BinDir, "caged"), command}, args...)
	created, err := api.ExecCreate(ctx, c.ID, client.ExecCreateOptions{
		Cmd: argv, AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, fmt.Errorf("creating exec %q: %w", command, err)
	}
	attached, err := api.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return nil, fmt.Errorf("starting exec %q: %w", command, err)
	}
	s := &Stream{
		Conn: attached.Conn, engine: c.engine, id: created.ID,
		hijack: attached.HijackedResponse, stderr: newTail(nil),
	}
	s.out = &demux{src: bufio.NewReaderSize(attached.Reader, readAhead), stderr: s.stderr}
	return s, nil
}

// readAhead lets one read bring several of the engine's frames and their headers.
const readAhead = 256 << 10

func (s *Stream) Read(p []byte) (int, error) { return s.out.Read(p) }

// CloseWrite ends the command's standard input.
func (s *Stream) CloseWrite() error { return s.hijack.CloseWrite() }

// exitPoll is the interval in which an exec that has closed its output is asked
// for its exit code; the engine has no call that waits for it.
const exitPoll = 10 * time.Millisecond

// Wait returns nil when the command, whose output must have been read to its
// end, has exited with 0. Its error carries what the command said.
func (s *Stream) Wait(ctx context.Context) error {
	tick := time.NewTicker(exitPoll)
	defer tick.Stop()
	for {
		state, err := s.engine.Client.ExecInspect(ctx, s.id, client.ExecInspectOptions{})
		if err != nil {
			return fmt.Errorf("asking for the exit code: %w", err)
		}
		if !state.Running {
			return s.result(state.ExitCode)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

func (s *Stream) result(code int) error {
	if code == 0 {
		return nil
	}
	if text := oneLine(s.stderr.String()); text != "" {
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
