// Package control is how caged talks to its own other invocations: the runtime
// wrapper registers steps, and the host's execs follow the events and seal the
// record. It is HTTP on a unix socket that only root can open and that no step
// has a path to.
//
// A step is one request: the wrapper sends what starts, waits for the answer,
// and sends how it ended on the same request. When the wrapper dies without a
// word the request breaks off, and the step has ended too. What the step should
// read in its log follows the answer, line by line, until the step has ended.
package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
)

// Start says what is about to run.
type Start struct {
	Command     string   `json:"command"`
	Secrets     []string `json:"secrets,omitempty"` // mount targets of secrets and ssh
	NetNS       string   `json:"netns,omitempty"`   // empty: the step has no network
	Traceparent string   `json:"traceparent,omitempty"`
	PID         int      `json:"pid"` // of the wrapper
}

// Started answers a Start.
type Started struct {
	ID string `json:"id"`
}

// notice is a line for the log of a running step.
type notice struct {
	Notice string `json:"notice"`
}

// Killed is the exit code of a step whose wrapper went away.
const Killed = 137

type exit struct {
	Code int `json:"exit"`
}

// maxStart bounds what a wrapper may send.
const maxStart = 1 << 20

// Server answers on the socket. All functions are required.
type Server struct {
	// StepStart registers a step. After an error the step must not run.
	StepStart func(context.Context, Start) (id string, err error)
	StepExit  func(id string, code int)
	// StepLines are what a running step is told; the channel is closed by the
	// step's exit. Nil, or a nil channel: nothing.
	StepLines func(id string) <-chan string
	// Follow writes records from number from on, until the end record, and Seal
	// asks for that. They are of the build that token stands for; "": the cage's own.
	Follow func(ctx context.Context, token string, from uint64, w io.Writer) error
	Seal   func(ctx context.Context, token string) error
	// Register lets a build in, until left is called. Nil: nobody is let in.
	Register func(contract.Registration) (lease contract.Lease, left func(), err error)
	// Inventory says what goes on; nil: nobody may ask.
	Inventory func() contract.Inventory
	// Ask writes what a build asks to out and takes answers from in until that
	// ends; nil: nobody is asked.
	Ask func(ctx context.Context, token string, in io.Reader, out io.Writer) error
	Log *slog.Logger // diagnostics; nil: none

	readers sync.WaitGroup
}

// Settle waits until everybody who follows the record has read its end, but
// no longer than grace.
func (s *Server) Settle(ctx context.Context, grace time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	go func() {
		s.readers.Wait()
		cancel()
	}()
	<-ctx.Done()
}

// Listen makes the socket, in a directory of its own that only root can enter.
func Listen(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("making the control socket: %w", err), l.Close())
	}
	return l, nil
}

// Serve answers until ctx ends; then it breaks off what is still open and
// returns nil.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/steps", s.step)
	mux.HandleFunc("GET /v1/events", s.events)
	mux.HandleFunc("POST /v1/seal", s.seal)
	mux.HandleFunc("POST /v1/builds", s.build)
	mux.HandleFunc("POST /v1/ask", s.ask)
	mux.HandleFunc("GET /v1/inventory", s.inventory)
	log := s.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	srv := &http.Server{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		Handler:  mux, ReadHeaderTimeout: 10 * time.Second,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	defer context.AfterFunc(ctx, func() { srv.Close() })()
	if err := srv.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serving the control socket: %w", err)
	}
	return nil
}

func (s *Server) step(w http.ResponseWriter, r *http.Request) {
	// The request may be left half-read: the connection is of no further use.
	w.Header().Set("Connection", "close")
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxStart))
	var start Start
	if err := body.Decode(&start); err != nil {
		http.Error(w, "reading the step: "+err.Error(), http.StatusBadRequest)
		return
	}
	id, err := s.StepStart(r.Context(), start)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	ended := make(chan struct{})
	lines := s.lines(id)
	go func() {
		defer close(ended)
		end := exit{}
		if err := body.Decode(&end); err != nil {
			end.Code = Killed
		}
		s.StepExit(id, end.Code)
	}()
	defer func() { <-ended }()
	out := json.NewEncoder(w)
	if err := errors.Join(out.Encode(Started{id}), http.NewResponseController(w).Flush()); err != nil {
		return
	}
	tell(out, http.NewResponseController(w), lines)
}

func (s *Server) lines(id string) <-chan string {
	if s.StepLines == nil {
		return nil
	}
	return s.StepLines(id)
}

// tell hands lines on until there are no more. A wrapper that is gone or does
// not read is no reason to stop emptying them.
func tell(out *json.Encoder, flush *http.ResponseController, lines <-chan string) {
	if lines == nil {
		return
	}
	for line := range lines {
		if out.Encode(notice{line}) == nil {
			_ = flush.Flush()
		}
	}
}

func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	from, err := strconv.ParseUint(r.URL.Query().Get("from"), 10, 64)
	if err != nil {
		http.Error(w, "from is not a number", http.StatusBadRequest)
		return
	}
	s.readers.Add(1)
	defer s.readers.Done()
	w.Header().Set("Content-Type", "application/jsonl")
	w.WriteHeader(http.StatusOK)
	if err := s.Follow(r.Context(), r.URL.Query().Get("build"), from, flusher{w, http.NewResponseController(w)}); err != nil {
		panic(http.ErrAbortHandler) //nolint:forbidigo // net/http's way to cut a response, so that the reader does not take this for the end
	}
}

func (s *Server) seal(w http.ResponseWriter, r *http.Request) {
	if err := s.Seal(r.Context(), r.URL.Query().Get("build")); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

// flusher hands on every write at once.
type flusher struct {
	io.Writer
	rc *http.ResponseController
}

func (f flusher) Write(b []byte) (int, error) {
	n, err := f.Writer.Write(b)
	if err != nil {
		return n, err
	}
	return n, f.rc.Flush()
}
