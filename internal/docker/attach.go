package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/contract"
)

var errStopped = errors.New("it stopped before it was ready")

// maxStatus is the longest status line that is read; caged writes short ones.
const maxStatus = 16 << 10

// attachment is the client's end of PID 1's standard streams.
type attachment struct {
	stream   client.HijackedResponse
	starting func() // is called when a session may begin
	log      *tail
	statuses chan contract.Status // until ready or failed; closed at the end of output
	ended    chan struct{}        // closed at the end of output

	mu      sync.Mutex
	failure contract.Status // the last StateFailed
}

func newAttachment(stream client.HijackedResponse, diagnostics io.Writer, starting func()) *attachment {
	a := &attachment{
		stream:   stream,
		starting: starting,
		log:      newTail(diagnostics),
		statuses: make(chan contract.Status, 1),
		ended:    make(chan struct{}),
	}
	go a.read()
	return a
}

func (a *attachment) close() { a.stream.Close() }

// read follows the output for the cage's whole life: diagnostics go to the
// tail, the first decisive status to statuses, a later failure is kept.
func (a *attachment) read() {
	defer close(a.ended)
	defer close(a.statuses)
	output := &demux{src: a.stream.Reader, stderr: a.log}
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, maxStatus)
	decided := false
	for lines.Scan() {
		var s contract.Status
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			s = contract.Status{State: contract.StateFailed, Error: fmt.Sprintf("unexpected output %q", clip(lines.Text()))}
		}
		if s.State == contract.StateStarting {
			a.starting()
			continue
		}
		if s.State == contract.StateFailed {
			a.mu.Lock()
			a.failure = s
			a.mu.Unlock()
		}
		if !decided {
			a.statuses <- s
			decided = true
		}
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintf(a.log, "reading the cage's output: %v\n", err)
	}
	_, _ = io.Copy(io.Discard, output) // after a line too long; else at its end already
}

func (a *attachment) lastFailure() (text, hint string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return printable(oneLine(a.failure.Error)), printable(oneLine(a.failure.Hint))
}

// handshake writes the boot line and waits for ready. stopped is closed when
// the container has ended.
func (a *attachment) handshake(ctx context.Context, boot contract.Boot, stopped <-chan struct{}) (contract.Status, error) {
	line, err := json.Marshal(boot)
	if err != nil {
		return contract.Status{}, fmt.Errorf("encoding the boot configuration: %w", err)
	}
	go func() { // a cage that does not read blocks this until the stream is closed
		if boot.Linger { // it has a file
			return
		}
		if _, err := a.stream.Conn.Write(append(line, '\n')); err != nil {
			fmt.Fprintf(a.log, "writing the boot configuration: %v\n", err)
		}
	}()
	select {
	case <-ctx.Done():
		return contract.Status{}, context.Cause(ctx)
	case <-stopped:
		return contract.Status{}, errStopped
	case s, ok := <-a.statuses:
		return decide(s, ok)
	}
}

func decide(s contract.Status, ok bool) (contract.Status, error) {
	switch {
	case !ok:
		return s, errStopped
	case s.State == contract.StateReady:
		return s, nil
	case s.State == contract.StateFailed:
		return s, &failedError{printable(oneLine(s.Error))}
	}
	return s, fmt.Errorf("unexpected state %q", clip(string(s.State)))
}
