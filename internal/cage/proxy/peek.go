package proxy

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/cage/sniff"
)

// helloSize holds the first read: a post-quantum hello has 1.8 KiB.
const helloSize = 4 << 10

// buffers are the hellos of connections that are being judged.
//
//nolint:gochecknoglobals // a pool is only a cache
var buffers = sync.Pool{New: func() any { return new([helloSize]byte) }}

// lookout is how waiting for the client's first bytes ended.
type lookout uint8

const (
	classified lookout = iota
	silent             // nothing, or nothing conclusive, in time
	finished           // the client closed its side
	gone               // the client reset the connection
)

// peek reads until the kind of the connection is clear. With patience > 0 it
// gives up when nothing conclusive came for so long; TLS is conclusive with its first byte.
func (c *session) peek(patience time.Duration) (sniff.Kind, lookout) {
	for {
		if kind := sniff.Classify(c.hello); kind != sniff.NeedMore {
			return kind, classified
		}
		if how := c.readMore(patience); how != classified {
			return sniff.NeedMore, how
		}
	}
}

// readMore appends what the client sends next to c.hello.
func (c *session) readMore(patience time.Duration) lookout {
	deadline := c.began.Add(c.Limits.Hello)
	if patience > 0 {
		if soon := time.Now().Add(patience); soon.Before(deadline) {
			deadline = soon
		}
	}
	c.client.SetReadDeadline(deadline)
	if len(c.hello) == cap(c.hello) {
		c.grow()
	}
	n, err := c.client.Read(c.hello[len(c.hello):cap(c.hello)])
	c.hello = c.hello[:len(c.hello)+n]
	c.up.Add(int64(n))
	switch {
	case n > 0:
		return classified
	case errors.Is(err, os.ErrDeadlineExceeded):
		return silent
	case errors.Is(err, io.EOF):
		return finished
	}
	return gone
}

// grow makes room for more: first a pooled buffer, then twice as much. The
// callers stop at sniff.MaxHello.
func (c *session) grow() {
	if cap(c.hello) == 0 {
		c.hello = buffers.Get().(*[helloSize]byte)[:0]
		return
	}
	larger := make([]byte, len(c.hello), 2*cap(c.hello))
	copy(larger, c.hello)
	c.release()
	c.hello = larger
}

// release gives the buffer back. Nothing may refer to c.hello any more.
func (c *session) release() {
	if cap(c.hello) == helloSize {
		buffers.Put((*[helloSize]byte)(c.hello[:helloSize]))
	}
	c.hello = nil
}
