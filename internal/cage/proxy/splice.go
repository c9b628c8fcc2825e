package proxy

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

const (
	// pipeSize is what a kernel pipe between two sockets holds. Processor time
	// for a GB of 16 streams: 64 KiB 0.80 s, 256 KiB 0.68 s, 1 MiB 0.44 s.
	pipeSize = 1 << 20
	// maxPipes is how many unused ones are kept.
	maxPipes = 128
)

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

// lane is one direction of a connection. It has a pipe while it moves much at
// once, and a buffer while it has something that the other side does not take yet.
type lane struct {
	pipe pipe
	buf  *[bufSize]byte
	held bool // pipe is valid
	bulk bool // the last reading was not all that there was
	off  int  // bytes of buf that are through
	n    int  // bytes in pipe or buf
}

// bufSize is what one reading takes without a pipe. Up to there copying is
// cheaper than three calls to splice.
const bufSize = 16 << 10

//nolint:gochecknoglobals // a pool is only a cache
var laneBuffers = sync.Pool{New: func() any { return new([bufSize]byte) }}

// fill takes bytes in: what is little into the relay's scratch, from where
// forward must send it on, more into a pipe. None means that there is nothing
// now, or with src still readable the end of file.
func (l *lane) fill(r *relay, src *socket) (n int, err error) {
	l.bulk = l.bulk && !src.urgent
	if l.bulk && !l.held {
		l.pipe, l.held = r.pipes.get()
		l.bulk = l.held
	}
	if l.bulk {
		n, err = spliceNow(src.fd, l.pipe.w, pipeSize)
		l.bulk, l.n = n >= bufSize, n
	}
	if !l.bulk && n == 0 && err == nil { // splice ends at an urgent byte, too, read only at the end
		l.drop(r.pipes)
		n, err = readNow(src.fd, r.scratch[:])
		l.bulk = n == bufSize
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		src.readable = false
		return 0, nil
	case !l.held && 0 < n && n < bufSize && !src.ended && !src.urgent: // epoll(7): that was all
		src.readable = false
	}
	return n, err
}

// forward sends what fill has put into the relay's scratch.
func (l *lane) forward(r *relay, src, dst *socket, n int) error {
	if l.held {
		return nil
	}
	sent := 0
	if dst.writable {
		var err error
		last := src.ended && !src.torn // a reset would discard what waits for the end
		if sent, err = sendNow(dst.fd, r.scratch[:n], last); err != nil && !errors.Is(err, unix.EAGAIN) {
			return err
		}
	}
	if sent < n {
		dst.writable = false
		l.buf, _ = laneBuffers.Get().(*[bufSize]byte)
		l.off, l.n = 0, copy(l.buf[:], r.scratch[sent:n])
	}
	return nil
}

// flush sends what pipe or buffer hold, as far as dst takes it.
func (l *lane) flush(dst *socket) error {
	for l.n > 0 {
		n, err := l.give(dst.fd)
		if errors.Is(err, unix.EAGAIN) {
			dst.writable = false
			return nil
		}
		if err != nil {
			return err
		}
		l.n -= n
	}
	return nil
}

func (l *lane) give(fd int) (int, error) {
	if l.held {
		return spliceNow(l.pipe.r, fd, l.n)
	}
	n, err := sendNow(fd, l.buf[l.off:l.off+l.n], false)
	l.off += n
	return n, err
}

// drop gives pipe and buffer back.
func (l *lane) drop(p *pipes) {
	if l.held {
		p.put(l.pipe, l.n == 0)
	}
	if l.buf != nil {
		laneBuffers.Put(l.buf)
	}
	l.held, l.buf = false, nil
}
