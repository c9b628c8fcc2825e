package main

import (
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
)

// session runs each command of a session as a process.
func session() {
	conn := &stdio{gone: make(chan struct{})}
	var only http.Protocols
	only.SetUnencryptedHTTP2(true)
	server := &http.Server{Protocols: &only, Handler: http.HandlerFunc(command)}
	_ = server.Serve(&single{conn: conn})
}

func command(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", contract.SessionExit+", "+contract.SessionError)
	w.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(w).Flush()
	args := append([]string{strings.TrimPrefix(r.URL.Path, "/")}, r.Header.Values(contract.SessionArgument)...)
	cmd := exec.CommandContext(r.Context(), "/proc/self/exe", args...)
	in, err := cmd.StdinPipe()
	check(err)
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = flushing{w}, &said
	check(cmd.Start())
	go func() {
		io.Copy(in, r.Body)
		in.Close()
	}()
	code := 0
	if err := cmd.Wait(); err != nil {
		code = 1
	}
	w.Header().Set(contract.SessionExit, strconv.Itoa(code))
	w.Header().Set(contract.SessionError, strings.TrimSpace(said.String()))
}

type flushing struct{ http.ResponseWriter }

func (f flushing) Write(b []byte) (int, error) {
	n, err := f.ResponseWriter.Write(b)
	return n, errors.Join(err, http.NewResponseController(f.ResponseWriter).Flush())
}

// single is a listener of one connection.
type single struct {
	conn *stdio
	had  bool
}

func (s *single) Accept() (net.Conn, error) {
	if !s.had {
		s.had = true
		return s.conn, nil
	}
	<-s.conn.gone
	return nil, io.EOF
}
func (s *single) Close() error   { return nil }
func (s *single) Addr() net.Addr { return &net.UnixAddr{} }

type stdio struct{ gone chan struct{} }

func (*stdio) Read(p []byte) (int, error)       { return os.Stdin.Read(p) }
func (*stdio) Write(p []byte) (int, error)      { return os.Stdout.Write(p) }
func (s *stdio) Close() error                   { close(s.gone); return nil }
func (*stdio) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (*stdio) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (*stdio) SetDeadline(time.Time) error      { return nil }
func (*stdio) SetReadDeadline(time.Time) error  { return nil }
func (*stdio) SetWriteDeadline(time.Time) error { return nil }
