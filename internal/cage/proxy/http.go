package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// exchange is the HTTP side of a connection. Its transport is its own:
// connections to origins are reused for requests of the same client
// connection to the same judged destination, and for nothing else.
type exchange struct {
	*session
	*scratch
	br        *bufio.Reader
	transport *http.Transport // nil: none yet
	number    int
	start     mark
	deadline  time.Time     // of the client's socket, as far as it was set here
	ruling    ruling        // on the last request that was allowed
	idle      time.Time     // when the last request was recorded
	last      policy.Target // that a request went to with transport
	line      *line         // nil: none
	whole     bool          // the last response was relayed to its end
	many      int64         // requests at once make it worth while to yield
}

// crowd is how many requests at once, for each processor, make it likely that
// some of them wait for one.
const crowd = 4

// yield lets others go first where there are many. What this one would wait for
// has come when it is its turn again; to ask for it at once costs a call to the
// kernel in vain, a switch, and the call again.
func (x *exchange) yield() {
	if x.requests.Load() > x.many {
		runtime.Gosched()
	}
}

// mark is where the counters stood when a request began.
type mark struct {
	at       time.Time
	up, down int64
}

// scratch is what a request needs while it is served. A connection that waits
// for one holds none.
type scratch struct {
	head   head
	status status
	span   span
	out    []byte // what is written next, to either side
}

// maxScratch is the largest buffer that is kept.
const maxScratch = 16 << 10

//nolint:gochecknoglobals // a pool is only a cache
var scratches = sync.Pool{New: func() any { return new(scratch) }}

// done gives the scratch of a request back.
func (x *exchange) done() {
	x.requests.Add(-1)
	s := x.scratch
	x.scratch = nil
	if cap(s.out) > maxScratch {
		s.out = nil
	}
	s.head.bytes, s.status.bytes, s.span = nil, nil, span{}
	scratches.Put(s)
}

// http serves requests until the client or a refusal ends the connection.
func (c *session) http() {
	x := &exchange{session: c, many: crowd * int64(runtime.GOMAXPROCS(0))}
	c.client.open() // it is read and written for long, and waits for many things
	x.br = bufio.NewReaderSize(&prefixed{c}, readSize)
	defer func() {
		x.hangUp()
		if x.transport != nil {
			x.transport.CloseIdleConnections()
		}
	}()
	for x.await() && x.one() {
	}
}

func (x *exchange) newTransport() *http.Transport {
	return &http.Transport{
		DialContext:            x.dialHTTP,
		DisableCompression:     true,
		MaxIdleConns:           1, // see connFiles
		IdleConnTimeout:        x.Limits.KeepAlive,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 256 << 10,
	}
}

// prefixed reads what was peeked, then the connection, and counts.
type prefixed struct{ *session }

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.hello) > 0 {
		n := copy(b, p.hello)
		if n == len(p.hello) {
			p.release()
		} else {
			p.hello = p.hello[n:]
		}
		return n, nil
	}
	n, err := p.client.Read(b)
	p.up.Add(int64(n))
	return n, err
}

// one serves one request and reports whether another may follow.
func (x *exchange) one() bool {
	x.requests.Add(1)
	x.scratch, _ = scratches.Get().(*scratch)
	defer x.done()
	return x.next()
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

// patience sets when reading from the client ends; the zero time: never.
func (x *exchange) patience(until time.Time) {
	if x.deadline != until {
		x.deadline = until
		x.client.SetReadDeadline(until)
	}
}

// hurry is called where the rest of a head has to come.
func (x *exchange) hurry() {
	if x.number > 1 {
		x.patience(x.start.at.Add(x.Limits.Hello))
	}
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

// judge decides about one request and serves it.
func (x *exchange) judge(ev *event.Conn, h *head) bool {
	r, refused := x.rule(h)
	t, d := r.target, r.decision
	ev.Protocol, ev.Name, ev.RawName = string(t.Protocol), t.Name, event.Escape(r.raw)
	if t.Protocol == "" {
		ev.Protocol = string(policy.HTTP)
	}
	if refused != nil {
		return x.refuse(ev, refused)
	}
	if !x.allows(ev, d, t) {
		return x.refuse(ev, &refusal{reason: event.Reason(d.Reason), status: 403, hint: hint(t)})
	}
	if t.Protocol == policy.HTTP && t.Name != x.origName {
		ev.Flags = append(ev.Flags, flagRerouted)
	}
	if h.declineH2C() {
		ev.Flags = append(ev.Flags, flagH2C)
	}
	if refused := h.badUpgrade(); refused != nil {
		return x.refuse(ev, refused)
	}
	return x.forward(ev, h, t)
}

// ruling is what a Host means on a connection, and whether it may be asked.
type ruling struct {
	host     string        // as sent; empty: nothing has been ruled
	scope    *policy.Scope // that decided
	target   policy.Target
	raw      string
	decision policy.Decision
}

// rule decides about a request. Requests of one connection are much alike, so
// the last ruling is good for the next one with the same Host, as long as the
// rules are the same.
func (x *exchange) rule(h *head) (ruling, *refusal) {
	scope, path := x.step.Rules(), h.target[0] == '/'
	if path && h.hosts == 1 && h.host == x.ruling.host && scope == x.ruling.scope {
		return x.ruling, nil
	}
	t, raw, refused := x.target(h)
	r := ruling{host: h.host, scope: scope, target: t, raw: raw}
	if refused != nil {
		return r, refused
	}
	r.decision = scope.Judge(t)
	if path && t.Protocol == policy.HTTP && r.decision.Allowed {
		x.ruling = r
	}
	return r, nil
}

// hint is the line that would allow a target.
func hint(t policy.Target) string {
	list, rule := policy.Suggest(t)
	if rule == "" {
		return ""
	}
	return fmt.Sprintf("to allow it add to buildcage.yaml: %s: [%q]", list, rule)
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

// dialHTTP is how the transport reaches an origin: by the judged name or the
// judged address, through the same guard as everything else.
func (x *exchange) dialHTTP(_ context.Context, _, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		host = ""
	}
	conn, err := x.dial(host)
	if err != nil {
		return nil, err
	}
	return conn, nil
}
