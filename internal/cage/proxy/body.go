package proxy

import (
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"
)

// letGo is how long the transport has to close a body that it has read.
const letGo = 100 * time.Millisecond

// body reads a request body for the transport. It asks for the body where the
// client waits to be asked, and counts it against the upload budget.
type body struct {
	x        *exchange
	from     io.ReadCloser
	trailers func()
	more     bool // the client waits for 100 Continue
	ended    bool // read to its end
	err      error
	once     sync.Once
	done     chan struct{} // closed when the transport lets go of it
}

func (b *body) Read(p []byte) (int, error) {
	if b.more {
		b.more = false
		if !b.x.sayContinue() {
			return 0, io.ErrUnexpectedEOF
		}
	}
	n, err := b.from.Read(p)
	if n > 0 && !b.x.usage.spend(n) {
		b.x.cut(reasonBudget)
		return 0, io.ErrUnexpectedEOF
	}
	switch {
	case err == io.EOF:
		b.trailers()
		b.ended = true
	case err != nil:
		b.err = err
	}
	return n, err
}

func (b *body) Close() error {
	b.once.Do(func() { close(b.done) })
	return nil
}

// drained reports whether the whole body was read, so that a next request can
// follow. Otherwise it makes sure that nobody reads the connection any more.
func (b *body) drained() bool {
	select {
	case <-b.done:
	case <-time.After(letGo):
		b.x.client.SetReadDeadline(time.Unix(1, 0))
		b.x.term.end()
		<-b.done
	}
	return b.ended
}

// announced returns the trailers that may be passed on, without values. One
// that nobody announced, or that would matter as a header field, is dropped.
func announced(trailer http.Header) http.Header {
	list := maps.Clone(trailer)
	maps.DeleteFunc(list, func(name string, _ []string) bool {
		return slices.Contains(hopByHop(), name) ||
			slices.Contains([]string{"Host", "Content-Length", "Authorization", "Cookie", "Expect"}, name)
	})
	for name := range list {
		list[name] = nil
	}
	return list
}

func fill(to, from http.Header) {
	for name := range to {
		to[name] = from[name]
	}
}
