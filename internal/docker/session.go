package docker

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path"
	"sync"

	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
)

// session is the one exec of a cage that all commands run over. The zero value
// opens it when it is first needed, and again when it broke.
type session struct {
	mu   sync.Mutex
	last *opening
}

// opening is a session that is open or will be.
type opening struct {
	ready chan struct{} // closed when conn or err is set
	conn  *http.ClientConn
	line  *line
	err   error
}

// Prepare begins to open what commands run over, which takes the engine longer
// than anything else does. The first command waits for it, and gets its error.
func (c *Cage) Prepare() { c.begin() }

func (c *Cage) begin() *opening {
	c.session.mu.Lock()
	defer c.session.mu.Unlock()
	if o := c.session.last; o != nil && !o.broken() {
		return o
	}
	o := &opening{ready: make(chan struct{})}
	c.session.last = o
	go func() {
		defer close(o.ready)
		ctx, cancel := context.WithTimeout(context.Background(), requestTimeout)
		defer cancel()
		o.line, o.conn, o.err = c.open(ctx)
	}()
	return o
}

// broken says that there is no use in o any more.
func (o *opening) broken() bool {
	select {
	case <-o.ready:
		return o.err != nil || o.conn.Err() != nil
	default:
		return false
	}
}

// hangUp ends the session and all that runs over it.
func (c *Cage) hangUp() {
	c.session.mu.Lock()
	o := c.session.last
	c.session.mu.Unlock()
	if o == nil {
		return
	}
	<-o.ready
	if o.err == nil {
		o.conn.Close()
		o.line.Close()
	}
}

// open starts the process in the cage. Nothing is sent yet but the preface.
func (c *Cage) open(ctx context.Context) (*line, *http.ClientConn, error) {
	api := c.engine.Client
	created, err := api.ExecCreate(ctx, c.ID, client.ExecCreateOptions{
		Cmd:         []string{path.Join(contract.BinDir, "caged"), contract.CommandSession},
		AttachStdin: true, AttachStdout: true, AttachStderr: true,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("creating exec %q: %w", contract.CommandSession, err)
	}
	attached, err := api.ExecAttach(ctx, created.ID, client.ExecAttachOptions{})
	if err != nil {
		return nil, nil, fmt.Errorf("starting exec %q: %w", contract.CommandSession, err)
	}
	l := &line{Conn: attached.Conn, stderr: newTail(nil)}
	l.out = bufio.NewReaderSize(&demux{src: bufio.NewReaderSize(attached.Reader, readAhead), stderr: l.stderr}, preface)
	var only http.Protocols
	only.SetUnencryptedHTTP2(true)
	transport := &http.Transport{
		Protocols: &only, DisableCompression: true,
		HTTP2: &http.HTTP2Config{
			MaxReadFrameSize:          contract.SessionFrame,
			MaxReceiveBufferPerStream: contract.SessionWindow,
		},
		DialContext: func(context.Context, string, string) (net.Conn, error) { return l, nil },
	}
	conn, err := transport.NewClientConn(ctx, "http", "caged:80")
	if err != nil {
		l.Close()
		return nil, nil, fmt.Errorf("talking to the cage: %w", err)
	}
	return l, conn, nil
}

// readAhead lets one read bring several of the engine's frames and their headers.
const readAhead = 256 << 10

// preface is the header of an HTTP/2 frame. The server's first one is of type
// settings, on stream 0.
const preface = 9

// line is the exec of a session as a connection.
type line struct {
	net.Conn
	out    *bufio.Reader
	stderr *tail

	checked bool

	mu    sync.Mutex
	prose error // what came instead of HTTP/2
}

// Read looks at what comes first: an engine that can't start an exec says so in
// prose on the exec's standard output.
func (l *line) Read(p []byte) (int, error) {
	if l.checked {
		return l.out.Read(p)
	}
	first, err := l.out.Peek(preface)
	if len(first) == preface && first[3] == 4 && bytes.Equal(first[4:], make([]byte, 5)) {
		l.checked = true
		return l.out.Read(p)
	}
	said, _ := io.ReadAll(io.LimitReader(l.out, maxTail))
	text := oneLine(printable(string(said)) + " " + l.stderr.String())
	if text != "" {
		err = fmt.Errorf("the engine says %s", clip(text))
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = errors.New("the cage has hung up")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.prose = err
	return 0, err
}

// why prefers what the engine said to what became of it on its way.
func (l *line) why(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.prose != nil {
		return l.prose
	}
	return err
}

// start begins a command; it returns when the command has begun.
func (o *opening) start(ctx context.Context, s *Stream, in io.Reader, command string, args []string) error {
	select {
	case <-o.ready:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if o.err != nil {
		return o.err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://caged/"+command, in)
	if err != nil {
		return err
	}
	for _, a := range args {
		req.Header.Add(contract.SessionArgument, a)
	}
	resp, err := o.conn.RoundTrip(req)
	if err != nil {
		return o.line.why(err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return fmt.Errorf("the cage answers %s", clip(printable(resp.Status)))
	}
	s.out, s.trailer = resp.Body, &resp.Trailer
	return nil
}
