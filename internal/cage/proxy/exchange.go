package proxy

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"time"

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
	deadline  time.Time     // of the client's socket, as far as it was set here
	ruling    ruling        // on the last request that was allowed
	idle      time.Time     // when the last request was recorded
	last      policy.Target // that a request went to with transport
	line      *line         // nil: none
	whole     bool          // the last response was relayed to its end
	many      int64         // how many requests at once make it worth while to yield
}

func newExchange(c *session) *exchange {
	return &exchange{
		session: c,
		br:      bufio.NewReaderSize(&prefixed{c}, readSize),
		many:    crowd * int64(runtime.GOMAXPROCS(0)),
	}
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
	x.recorded = false
	x.scratch, _ = scratches.Get().(*scratch)
	defer x.done()
	return x.next()
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
