package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/buildcage/buildcage/internal/contract"
	"github.com/buildcage/buildcage/internal/event"
)

// drainTime is how long the record may keep coming after its cage has ended.
const drainTime = 2 * time.Second

// record is the event record while it comes in. Its fields may be read once
// done is closed.
type record struct {
	done    chan struct{}
	cancel  context.CancelFunc
	heard   func(*event.Record)
	records []event.Record
	err     error // nil: complete
}

// startRecord begins to follow the cage's record. ctx bounds the start only.
func startRecord(ctx context.Context, c cage, runID, file string, heard func(*event.Record)) (*record, error) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	src := &source{ctx: life, cage: c}
	if file != "" {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			cancel()
			return nil, fmt.Errorf("creating the record file: %w", err)
		}
		src.file = f
	}
	if err := src.connect(ctx); err != nil {
		cancel()
		return nil, errors.Join(err, src.close())
	}
	rec := &record{done: make(chan struct{}), cancel: cancel, heard: heard}
	go rec.read(src, runID)
	go rec.drain(c)
	return rec, nil
}

func (r *record) read(src *source, runID string) {
	defer close(r.done)
	decoder := event.NewDecoder(src)
	decoder.RunID = runID
	for {
		one, err := decoder.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				r.err = err
			}
			r.err = errors.Join(r.err, src.close())
			return
		}
		r.records = append(r.records, *one)
		if r.heard != nil {
			r.heard(one)
		}
	}
}

// drain gives up on the stream of a cage that is gone.
func (r *record) drain(c cage) {
	defer r.cancel()
	select {
	case <-r.done:
		return
	case <-c.Done():
	}
	select {
	case <-r.done:
	case <-time.After(drainTime):
	}
}

// early is why the record ended although nobody sealed it; nil when it was
// sealed. It may be called once done is closed.
func (r *record) early() error {
	if r.err != nil {
		return fmt.Errorf("following the record: %w", r.err)
	}
	if end := r.records[len(r.records)-1].End; end.Reason != sealed {
		return &EarlyEndError{end.Reason}
	}
	return nil
}

// sealed is the reason of an end record that was asked for.
const sealed = "sealed"

// wait returns the record once it has ended, at the latest when ctx does.
func (r *record) wait(ctx context.Context) (records []event.Record, complete bool, problem string) {
	select {
	case <-r.done:
	case <-ctx.Done():
		r.cancel()
		<-r.done
	}
	if r.err != nil {
		return r.records, false, r.err.Error()
	}
	return r.records, true, ""
}

const (
	retries    = 5
	retryDelay = 200 * time.Millisecond
)

// source reads the record lines of a cage as one stream. When the exec behind
// it breaks while the cage lives, it asks again from the first line that it
// does not have: the journal in the cage is lossless.
type source struct {
	ctx     context.Context
	cage    cage
	file    *os.File // nil: none
	stream  stream
	stop    func() bool
	lines   *bufio.Reader
	have    int  // whole lines delivered
	fails   int  // since the last line
	fresh   bool // nothing was read from stream yet
	pending []byte
}

func (s *source) Read(p []byte) (int, error) {
	for len(s.pending) == 0 {
		if err := s.next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, s.pending)
	s.pending = s.pending[n:]
	return n, nil
}

// next makes one line pending. A line that is too long passes in pieces; the
// decoder refuses it. An engine that can't start an exec says so in prose on the
// exec's standard output: that is no line but a broken connection.
func (s *source) next() error {
	line, err := s.lines.ReadSlice('\n')
	if s.fresh && len(line) > 0 && line[0] != '{' {
		return s.reconnect(fmt.Errorf("the engine says %s", event.Escape(strings.TrimSpace(string(line)))))
	}
	s.fresh = false
	if err == nil || errors.Is(err, bufio.ErrBufferFull) {
		s.fails = 0
		if err == nil {
			s.have++
		}
		s.pending = line
		return s.save(line)
	}
	return s.reconnect(err)
}

// reconnect decides what the end of a stream means. The command exits with 0
// only after the end record; then a rest without a line feed is cut off, and
// the decoder says so.
func (s *source) reconnect(cause error) error {
	if errors.Is(cause, io.EOF) {
		if cause = s.stream.Wait(s.ctx); cause == nil {
			return io.EOF
		}
	}
	for {
		s.fails++
		select {
		case <-s.ctx.Done():
			return event.ErrIncomplete
		case <-s.cage.Done():
			return event.ErrIncomplete
		case <-time.After(time.Duration(s.fails-1) * retryDelay):
		}
		if s.fails > retries {
			return fmt.Errorf("following the record: %w", cause)
		}
		s.release()
		if err := s.connect(s.ctx); err == nil {
			return nil
		}
	}
}

func (s *source) connect(ctx context.Context) error {
	stream, err := s.cage.Exec(ctx, contract.CommandEvents, "--from", strconv.Itoa(s.have+1))
	if err != nil {
		return fmt.Errorf("following the record: %w", err)
	}
	s.stream, s.fresh = stream, true
	s.stop = context.AfterFunc(s.ctx, func() { stream.Close() })
	s.lines = bufio.NewReaderSize(stream, event.MaxRecord)
	return nil
}

func (s *source) save(line []byte) error {
	if s.file == nil {
		return nil
	}
	if _, err := s.file.Write(line); err != nil {
		return fmt.Errorf("writing the record file: %w", err)
	}
	return nil
}

func (s *source) release() {
	if s.stream != nil {
		s.stop()
		s.stream.Close()
		s.stream = nil
	}
}

func (s *source) close() error {
	s.release()
	if s.file == nil {
		return nil
	}
	if err := s.file.Close(); err != nil {
		return fmt.Errorf("closing the record file: %w", err)
	}
	return nil
}
