package localimage

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/docker/buildx/util/urlutil"
)

const (
	maxDockerfile = 16 << 20
	// archiveHead is what buildx looks at to tell an archive from a Dockerfile.
	archiveHead = 1024
)

// Input is where a build's Dockerfile comes from, resolved as buildx does it.
type Input struct {
	// Dockerfile is its content; nil when only BuildKit can get at it (a
	// remote context, an archive on standard input).
	Dockerfile []byte
	Name       string    // how messages call it
	Stdin      io.Reader // to be read instead of the one given, which may be used up
	Local      string    // the context directory; empty when it is not one
}

// InputError is a context or Dockerfile that isn't there.
type InputError struct {
	msg, hint string
	err       error
}

func (e *InputError) Error() string { return e.msg }
func (e *InputError) Hint() string  { return e.hint }
func (e *InputError) Unwrap() error { return e.err }

// Open finds the Dockerfile of a build: file is -f, empty for the default.
func Open(contextPath, file string, stdin io.Reader) (*Input, error) {
	in := &Input{Stdin: stdin}
	info, err := os.Stat(contextPath)
	switch {
	case contextPath == "-" && file == "-":
		return nil, &InputError{msg: "standard input can't be both the build context and the Dockerfile", hint: "give one of them as a path"}
	case contextPath == "-":
		return in, in.sniff(file)
	case err == nil && info.IsDir():
		in.Local = contextPath
	case urlutil.IsRemoteURL(contextPath):
		if file != "-" && !filepath.IsAbs(file) {
			return in, nil
		}
	case err == nil:
		return nil, &InputError{msg: fmt.Sprintf("build context %q is not a directory", contextPath), hint: "give the directory, and the Dockerfile with -f"}
	default:
		return nil, &InputError{msg: fmt.Sprintf("build context %q: %v", contextPath, bare(err)), hint: "give a directory, a URL or - as the last argument", err: err}
	}
	return in, in.load(file)
}

// bare drops the operation and the path, which the message has already.
func bare(err error) error {
	var p *fs.PathError
	if errors.As(err, &p) {
		return p.Err
	}
	return err
}

// load reads the Dockerfile of a context that is not on standard input.
func (in *Input) load(file string) error {
	switch {
	case file == "-":
		dt, err := readAll(in.Stdin)
		if err != nil {
			return &InputError{msg: fmt.Sprintf("reading the Dockerfile from standard input: %v", err), hint: "pipe the Dockerfile in or name it with -f", err: err}
		}
		in.Dockerfile, in.Name, in.Stdin = dt, "stdin", bytes.NewReader(dt)
		return nil
	case urlutil.IsHTTPURL(file):
		return nil
	case file == "":
		file = filepath.Join(in.Local, "Dockerfile")
		if lower := filepath.Join(in.Local, "dockerfile"); missing(file) && !missing(lower) {
			file = lower
		}
	}
	f, err := os.Open(file)
	if err != nil {
		return &InputError{msg: fmt.Sprintf("Dockerfile %q: %v", file, bare(err)), hint: "name it with -f; the path is relative to the working directory", err: err}
	}
	defer f.Close()
	in.Name = file
	if in.Dockerfile, err = readAll(f); err != nil {
		return &InputError{msg: fmt.Sprintf("Dockerfile %q: %v", file, bare(err)), hint: "name a readable file with -f", err: err}
	}
	return nil
}

// sniff tells what standard input is: an archive with the context, which stays
// unread, or a Dockerfile without context.
func (in *Input) sniff(file string) error {
	r := bufio.NewReaderSize(in.Stdin, 2*archiveHead)
	head, err := r.Peek(archiveHead)
	in.Stdin = r
	if len(head) == 0 {
		return &InputError{msg: "nothing on standard input", hint: "pipe a Dockerfile or a tar archive in, or name a directory", err: err}
	}
	if isArchive(head) {
		return nil
	}
	if file != "" {
		return &InputError{msg: "both standard input and -f are Dockerfiles", hint: "leave -f out, or pipe a tar archive in"}
	}
	return in.load("-")
}

func isArchive(head []byte) bool {
	for _, magic := range [][]byte{
		{0x42, 0x5A, 0x68},                   // bzip2
		{0x1F, 0x8B, 0x08},                   // gzip
		{0xFD, 0x37, 0x7A, 0x58, 0x5A, 0x00}, // xz
	} {
		if bytes.HasPrefix(head, magic) {
			return true
		}
	}
	_, err := tar.NewReader(bytes.NewReader(head)).Next()
	return err == nil
}

func readAll(r io.Reader) ([]byte, error) {
	dt, err := io.ReadAll(io.LimitReader(r, maxDockerfile+1))
	if err == nil && len(dt) > maxDockerfile {
		err = fmt.Errorf("more than %d bytes", maxDockerfile)
	}
	return dt, err
}

func missing(file string) bool {
	_, err := os.Stat(file)
	return errors.Is(err, fs.ErrNotExist)
}
