package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what a kernel pipe between two sockets holds. One stream over
	// loopback: 64 KiB 1.5 GB/s, 256 KiB 2.1 GB/s, 1 MiB the same.
	pipeSize = 256 << 10
	// maxPipes is how many unused ones are kept.
	maxPipes = 128
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// counter is where a flow counts its bytes.
type counter interface{ Add(int64) int64 }

// pipes moves bytes between sockets inside the kernel. It differs from
// io.Copy, which does that too, in what idle connections cost: here they hold
// no pipe (two descriptors and a ring of pages), so 10 000 of them cost 20 000
// descriptors and not 60 000; and bytes are counted as they move. The zero
// value is ready.
type pipes struct {
	most int // in use at once; set before the first use

	mu     sync.Mutex
	free   []pipe
	used   int
	closed bool
}

type pipe struct{ r, w int }

// get returns false when there is no pipe to be had.
func (p *pipes) get() (pipe, bool) {
	p.mu.Lock()
	if p.used >= p.most {
		p.mu.Unlock()
		return pipe{}, false
	}
	p.used++
	if n := len(p.free); n > 0 {
		got := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return got, true
	}
	p.mu.Unlock()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.used--
		return pipe{}, false
	}
	// A smaller pipe is slower, not wrong.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return pipe{fds[0], fds[1]}, true
}

// put takes a pipe back; empty ones are kept.
func (p *pipes) put(used pipe, empty bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used--
	if !empty || p.closed || len(p.free) >= maxPipes {
		used.close()
		return
	}
	p.free = append(p.free, used)
}

func (p *pipes) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, unused := range p.free {
		unused.close()
	}
	p.free, p.closed = nil, true
}

func (p pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// fault is an error of one side of a connection.
type fault struct {
	side *net.TCPConn
	err  error
}

func (f *fault) Error() string { return f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// lane is one direction of a connection. While it moves bytes it has a pipe,
// or a buffer when there is no pipe to be had.
type lane struct {
	pipes *pipes
	pipe  pipe
	buf   *[bufSize]byte
	held  bool // pipe is valid
	off   int  // bytes of buf that are through
	n     int  // bytes in pipe or buf
	err   error
}

const bufSize = 32 << 10

//nolint:gochecknoglobals // a pool is only a cache
var laneBuffers = sync.Pool{New: func() any { return new([bufSize]byte) }}

// splice moves bytes from src to dst until the end of file, which is no error.
// Other errors are a *fault of the side that they came from.
func (p *pipes) splice(dst, src *net.TCPConn, count counter) error {
	from, err := src.SyscallConn()
	if err != nil {
		return &fault{src, err}
	}
	to, err := dst.SyscallConn()
	if err != nil {
		return &fault{dst, err}
	}
	l := &lane{pipes: p}
	defer l.drop()
	for {
		if err := l.in(from); err != nil {
			return &fault{src, err}
		}
		if l.n == 0 {
			return nil
		}
		count.Add(int64(l.n))
		if err := l.out(to); err != nil {
			return &fault{dst, err}
		}
	}
}

// in waits for bytes and takes them in; none means the end of file. Pipe or
// buffer go back while there is nothing to read.
func (l *lane) in(from syscall.RawConn) error {
	err := from.Read(func(fd uintptr) bool {
		if l.n, l.err = l.take(int(fd)); !errors.Is(l.err, unix.EAGAIN) {
			return true
		}
		l.n, l.err = 0, nil
		l.drop()
		return false
	})
	return errors.Join(err, l.err)
}

func (l *lane) take(fd int) (int, error) {
	if !l.held && l.buf == nil {
		if l.pipe, l.held = l.pipes.get(); !l.held {
			l.buf = laneBuffers.Get().(*[bufSize]byte)
		}
	}
	if l.held {
		return splice(fd, l.pipe.w, pipeSize)
	}
	l.off = 0
	return again(func() (int, error) { return unix.Read(fd, l.buf[:]) })
}

// out sends all that was taken in.
func (l *lane) out(to syscall.RawConn) error {
	err := to.Write(func(fd uintptr) bool {
		for l.n > 0 {
			n, err := l.give(int(fd))
			if errors.Is(err, unix.EAGAIN) {
				return false
			}
			if l.err = err; err != nil {
				return true
			}
			l.n -= n
		}
		return true
	})
	return errors.Join(err, l.err)
}

func (l *lane) give(fd int) (int, error) {
	if l.held {
		return splice(l.pipe.r, fd, l.n)
	}
	n, err := again(func() (int, error) { return unix.Write(fd, l.buf[l.off:l.off+l.n]) })
	l.off += n
	return n, err
}

// drop gives pipe or buffer back.
func (l *lane) drop() {
	if l.held {
		l.pipes.put(l.pipe, l.n == 0)
	}
	if l.buf != nil {
		laneBuffers.Put(l.buf)
	}
	l.held, l.buf = false, nil
}

func splice(from, to, size int) (int, error) {
	return again(func() (int, error) {
		n, err := unix.Splice(from, nil, to, nil, size, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		return int(n), err
	})
}

// again repeats what a signal interrupted.
func again(f func() (int, error)) (int, error) {
	for {
		n, err := f()
		if !errors.Is(err, unix.EINTR) {
			return max(n, 0), err
		}
	}
}
