package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/buildcage/buildcage/internal/event"
)

const (
	// chunkHead is room for the size line of a chunk.
	chunkHead = 8
	chunkSize = 32 << 10
)

// reply writes to the client and counts.
type reply struct{ x *exchange }

func (w reply) Write(b []byte) (int, error) {
	n, err := w.x.client.open().Write(b)
	w.x.down.Add(int64(n))
	return n, err
}

// sayContinue asks the client for the body of its request.
func (x *exchange) sayContinue() bool {
	_, err := reply{x}.Write([]byte("HTTP/1.1 100 Continue\r\n\r\n"))
	return err == nil
}

// respond relays a response as it comes, with framing of ours. It reports
// whether the connection can take another request.
func (x *exchange) respond(ev *event.Conn, h *head, r *http.Response) bool {
	keep, chunked := h.reframe(r)
	x.whole = false
	bodiless, first := bodiless(h.method, r.StatusCode), int64(0)
	if !bodiless {
		first = x.inHand(r)
	}
	if err := x.writeHead(r, first); err != nil {
		ev.Detail = "client closed"
		return false
	}
	x.whole = bodiless || x.copyBody(ev, r.Body, chunked) && (!chunked || x.writeEnd(r.Trailer))
	return x.whole && keep
}

// reframe gives a response to h the fields that its client gets. keep says that
// the client can send another request, chunked that the body has no length.
func (h *head) reframe(r *http.Response) (keep, chunked bool) {
	connection := tokens(strings.Join(r.Header["Connection"], ","))
	trailers := names(r.Trailer)
	clean(r.Header, connection)
	keep = !h.closes()
	switch {
	case bodiless(h.method, r.StatusCode): // Content-Length, if any, says what GET would give
	case r.ContentLength >= 0:
		r.Header.Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	case !h.http10:
		chunked = true
		r.Header.Del("Content-Length")
		r.Header.Set("Transfer-Encoding", "chunked")
		if len(trailers) > 0 {
			r.Header.Set("Trailer", strings.Join(trailers, ", "))
		}
	default:
		keep = false
	}
	switch {
	case !keep:
		r.Header.Set("Connection", "close")
	case h.http10:
		r.Header.Set("Connection", "keep-alive")
	}
	return keep, chunked
}

// writeHead sends the head of a response, with so many bytes of its body.
func (x *exchange) writeHead(r *http.Response, first int64) error {
	var b bytes.Buffer
	if err := encodeHead(&b, r); err != nil {
		return err
	}
	if _, err := io.CopyN(&b, r.Body, first); err != nil {
		return err
	}
	_, err := reply{x}.Write(b.Bytes())
	return err
}

func encodeHead(b *bytes.Buffer, r *http.Response) error {
	line := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' ' // some take a lone CR for the end of the line
		}
		return c
	}, r.Status)
	fmt.Fprintf(b, "HTTP/1.1 %s\r\n", strings.TrimRight(line, " "))
	err := r.Header.Write(b)
	b.WriteString("\r\n")
	return err
}

//nolint:gochecknoglobals // a pool is only a cache
var chunks = sync.Pool{New: func() any { return new([chunkHead + chunkSize + 2]byte) }}

// copyBody relays every piece when it arrives. A response that breaks off
// ends in a reset, so that the client can't take it for whole.
func (x *exchange) copyBody(ev *event.Conn, body io.Reader, chunked bool) bool {
	chunk, _ := chunks.Get().(*[chunkHead + chunkSize + 2]byte)
	defer chunks.Put(chunk)
	buf := chunk[:]
	var much *bulk
	if s, ok := body.(*span); ok && !chunked && s.left > chunkSize {
		much = x.newBulk(s)
	}
	for {
		n, err := body.Read(buf[chunkHead : chunkHead+chunkSize])
		if n > 0 {
			piece := buf[chunkHead : chunkHead+n]
			if chunked {
				piece = frame(buf, n)
			}
			if _, err := (reply{x}).Write(piece); err != nil {
				ev.Detail = "client closed"
				return false
			}
		}
		if n == chunkSize && much != nil {
			if err = much.run(); much.lost {
				ev.Detail = "client closed"
				return false
			}
		}
		if errors.Is(err, io.EOF) {
			return true
		}
		if err != nil {
			if ending(x.ended.Load()) == running {
				ev.Verdict, ev.Reason, ev.Detail = event.Failed, event.UpstreamError, event.Escape("response broke off: "+err.Error())
			}
			x.cut(running)
			return false
		}
	}
}

// writeEnd ends a chunked body.
func (x *exchange) writeEnd(trailer http.Header) bool {
	var b bytes.Buffer
	b.WriteString("0\r\n")
	err := trailer.Write(&b)
	b.WriteString("\r\n")
	if err == nil {
		_, err = reply{x}.Write(b.Bytes())
	}
	return err == nil
}

// frame puts a chunk's size before and CRLF behind n bytes at buf[chunkHead:].
func frame(buf []byte, n int) []byte {
	size := strconv.AppendInt(make([]byte, 0, chunkHead), int64(n), 16)
	start := chunkHead - len(size) - 2
	copy(buf[start:], size)
	copy(buf[chunkHead-2:], "\r\n")
	copy(buf[chunkHead+n:], "\r\n")
	return buf[start : chunkHead+n+2]
}

func names(h http.Header) []string {
	list := make([]string, 0, len(h))
	for name := range h {
		list = append(list, name)
	}
	slices.Sort(list)
	return list
}
