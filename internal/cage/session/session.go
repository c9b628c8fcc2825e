// Package session runs many of caged's commands in one process that the host
// has started in the cage. It speaks HTTP/2 on that process' standard streams and
// adds nothing to what the host may do: each command is one that the host
// could have started by itself.
package session

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
)

// Command is one command: its name and arguments. Its context ends with the
// client. It may be called many times at once.
type Command func(ctx context.Context, args []string, in io.Reader, out io.Writer) (code int, err error)

// maxError bounds what is said about a command that failed.
const maxError = 1000

// Serve runs commands until in ends, and breaks off those that still run.
func Serve(in io.Reader, out io.Writer, run Command, log *slog.Logger) error {
	line := &line{in: in, out: out, ended: make(chan struct{})}
	var only http.Protocols
	only.SetUnencryptedHTTP2(true)
	server := &http.Server{
		Handler:   handler(run),
		Protocols: &only,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize:              contract.SessionFrame,
			MaxReceiveBufferPerStream:     contract.SessionWindow,
			MaxReceiveBufferPerConnection: 4*contract.SessionWindow - 1, // the most there is
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	if err := server.Serve(&once{line: line}); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

func handler(run Command) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		args := append([]string{strings.TrimPrefix(r.URL.Path, "/")}, r.Header.Values(contract.SessionArgument)...)
		w.Header().Set("Trailer", contract.SessionExit+", "+contract.SessionError)
		w.WriteHeader(http.StatusOK)
		flush := http.NewResponseController(w)
		if flush.Flush() != nil {
			return // the client is gone
		}
		code, err := run(r.Context(), args, r.Body, flusher{w, flush})
		w.Header().Set(contract.SessionExit, strconv.Itoa(code))
		if err != nil {
			w.Header().Set(contract.SessionError, event.EscapeMax(strings.Join(strings.Fields(err.Error()), " "), maxError))
		}
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

// once is a listener with one connection; it ends with that.
type once struct {
	line *line
	next sync.Once
}

func (o *once) Accept() (conn net.Conn, err error) {
	o.next.Do(func() { conn = o.line })
	if conn != nil {
		return conn, nil
	}
	<-o.line.ended
	return nil, io.EOF
}

func (o *once) Close() error   { return nil }
func (o *once) Addr() net.Addr { return address{} }

// line is a connection over two streams. Its deadlines are never: it ends with
// its input, and the process with it.
type line struct {
	in    io.Reader
	out   io.Writer
	close sync.Once
	ended chan struct{}
}

func (l *line) Read(p []byte) (int, error)  { return l.in.Read(p) }
func (l *line) Write(p []byte) (int, error) { return l.out.Write(p) }

func (l *line) Close() error {
	l.close.Do(func() { close(l.ended) })
	return nil
}

func (l *line) LocalAddr() net.Addr              { return address{} }
func (l *line) RemoteAddr() net.Addr             { return address{} }
func (l *line) SetDeadline(time.Time) error      { return nil }
func (l *line) SetReadDeadline(time.Time) error  { return nil }
func (l *line) SetWriteDeadline(time.Time) error { return nil }

type address struct{}

func (address) Network() string { return "stdio" }
func (address) String() string  { return "stdio" }
