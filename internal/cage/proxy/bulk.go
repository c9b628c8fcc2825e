package proxy

import (
	"errors"
	"io"
	"syscall"

	"golang.org/x/sys/unix"
)

// span is a response's body of known length on a line.
type span struct {
	line *line
	left int64
}

func (s *span) Read(b []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.line.br.Read(b[:min(int64(len(b)), s.left)])
	s.left -= int64(n)
	if err == io.EOF && s.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Close leaves what was not read to settle.
func (s *span) Close() error { return nil }

// bulk moves a body inside the kernel while much of it comes at once. It holds
// a pipe only while bytes move, like a lane.
type bulk struct {
	x        *exchange
	span     *span
	from, to syscall.RawConn
	pipe     pipe
	n        int   // bytes in the pipe
	err      error // of the last splice
	lost     bool  // it is the client that failed
}

// newBulk returns nil for a body that can't go through a pipe.
func (x *exchange) newBulk(s *span) *bulk {
	from, err := s.line.conn.SyscallConn()
	if err != nil {
		return nil
	}
	to, err := x.client.open().SyscallConn()
	if err != nil {
		return nil
	}
	return &bulk{x: x, span: s, from: from, to: to}
}

// run moves what there is until it gets less, or there is no pipe: the rest is
// for reading.
func (b *bulk) run() error {
	for b.span.left > 0 && b.span.line.br.Buffered() == 0 {
		if err := errors.Join(b.from.Read(b.take), b.err); err != nil {
			return err
		}
		n := b.n
		if n == 0 { // also at the end of the origin's bytes, which reading tells from an urgent byte
			return nil
		}
		b.span.left -= int64(n)
		err := errors.Join(b.to.Write(b.give), b.err)
		b.x.pipes.put(b.pipe, b.n == 0)
		if err != nil {
			b.lost = true
			return err
		}
		if n < bufSize {
			return nil
		}
	}
	return nil
}

// take fills a pipe, which is held afterwards if it got something.
func (b *bulk) take(fd uintptr) bool {
	p, ok := b.x.pipes.get()
	if !ok {
		b.n, b.err = 0, nil
		return true
	}
	b.pipe = p
	b.n, b.err = spliceNow(int(fd), p.w, int(min(pipeSize, b.span.left)))
	if b.n == 0 {
		b.x.pipes.put(p, true)
	}
	if errors.Is(b.err, unix.EAGAIN) {
		b.err = nil
		return false
	}
	return true
}

// give empties the pipe.
func (b *bulk) give(fd uintptr) bool {
	b.err = nil
	for b.n > 0 {
		n, err := spliceNow(b.pipe.r, int(fd), b.n)
		if errors.Is(err, unix.EAGAIN) {
			return false
		}
		if err != nil {
			b.err = err
			return true
		}
		b.n -= n
		b.x.down.Add(int64(n))
	}
	return true
}
