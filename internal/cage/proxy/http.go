package proxy

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// http serves requests until the client or a refusal ends the connection.
func (c *session) http() {
	c.client.open() // it is read and written for long, and waits for many things
	x := newExchange(c)
	defer func() {
		x.hangUp()
		if x.transport != nil {
			x.transport.CloseIdleConnections()
		}
	}()
	for x.await() && x.one() {
	}
}

// next reads the head of a request, and serves it.
func (x *exchange) next() bool {
	ev := x.event(policy.HTTP)
	ev.Request = x.number
	br, bytes, err := readHead(x.br, x.hurry)
	x.br = br
	h := &x.head
	refused := h.scan(bytes, x.ruling.host)
	ev.Method, ev.Path = event.EscapeMax(h.method, 64), pathOf(h.target)
	switch {
	case errors.Is(err, errTooLong):
		return x.refuse(ev, badRequest(err.Error()))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return x.refuse(ev, &refusal{reason: event.HelloTimeout, status: 408, detail: "request head is not complete"})
	case err != nil && isEnd(err) && refused != nil && len(bytes) > 0:
		return x.refuse(ev, badRequest("connection closed inside the request head"))
	case err != nil:
		return x.aborted(ev)
	case refused != nil:
		return x.refuse(ev, refused)
	case h.method == http.MethodConnect:
		return x.refuse(ev, &refusal{reason: event.ConnectMethod, status: 405, detail: "CONNECT " + h.target})
	}
	return x.judge(ev, h)
}

// await waits for the first byte of a request. A keep-alive connection that
// ends here has said all it had to say. Setting a deadline costs as much as
// scanning a head, so one that is nearly right stays.
func (x *exchange) await() bool {
	if x.number++; x.number == 1 {
		x.patience(x.began.Add(x.Limits.Hello))
	} else if x.br.Buffered() < 2 {
		until := x.idle.Add(x.Limits.KeepAlive)
		if early := until.Sub(x.deadline); early < 0 || early > x.Limits.KeepAlive/16 {
			x.patience(until)
		}
		x.yield()
	}
	err := skipEmptyLine(x.br)
	if err == nil {
		_, err = x.br.Peek(1)
	}
	if x.number > 1 {
		x.start = mark{time.Now(), x.up.Load() - int64(x.br.Buffered()), x.down.Load()}
	} else {
		x.start.at = x.began
	}
	if err != nil && x.number == 1 {
		x.aborted(x.event(policy.HTTP))
	}
	return err == nil
}

// aborted records a client that was gone before its request was complete.
func (x *exchange) aborted(ev *event.Conn) bool {
	x.forsaken(ev, policy.HTTP)
	x.end(ev)
	x.finish(ev)
	return false
}

// finish records one request with its own counts.
func (x *exchange) finish(ev *event.Conn) {
	ev.Up = max(0, x.up.Load()-int64(x.br.Buffered())-int64(len(x.hello))-x.start.up)
	ev.Down = x.down.Load() - x.start.down
	x.idle = time.Now()
	ev.Took = x.idle.Sub(x.start.at)
	x.emit(ev)
}

// refuse records, answers and closes. It returns false.
func (x *exchange) refuse(ev *event.Conn, r *refusal) bool {
	ev.Verdict, ev.Reason, ev.Detail = event.Blocked, r.reason, event.Escape(r.detail)
	return x.answer(ev, r.status, orDefault(r.hint, r.detail))
}

// answer ends the connection with a plain text response of ours.
func (x *exchange) answer(ev *event.Conn, status int, detail string) bool {
	x.end(ev)
	host := orDefault(orDefault(ev.Name, ev.OrigName), x.orig.Addr().String())
	text := fmt.Sprintf("buildcage: refused %s: %s", net.JoinHostPort(host, fmt.Sprint(ev.Port)), ev.Reason)
	if detail != "" {
		text += "; " + event.Escape(detail)
	}
	body := text + "\n"
	if ev.Method == http.MethodHead {
		body = ""
	}
	response := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		status, http.StatusText(status), len(text)+1, body)
	x.client.open().SetWriteDeadline(time.Now().Add(lingerTime))
	x.finish(ev)
	_, _ = x.client.open().Write([]byte(response)) // the client may be gone
	x.linger()
	return false
}
