package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Client speaks to the server behind a socket.
type Client struct{ http http.Client }

// NewClient returns a client of the socket at path. It connects when needed.
func NewClient(path string) *Client {
	var d net.Dialer
	return &Client{http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "unix", path)
		},
	}}}
}

// Step is a registered step.
type Step struct {
	ID   string
	body *io.PipeWriter
	resp io.Closer
	done chan error    // the answer has been read to its end
	said chan struct{} // closed when all lines are handed on
}

// Start registers a step. After an error it must not run. say is called with
// every line for the step's log; nil: nobody reads them.
func (c *Client) Start(ctx context.Context, s Start, say func(line string)) (*Step, error) {
	first, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("registering the step: %w", err)
	}
	r, w := io.Pipe()
	req, err := request(ctx, http.MethodPost, "/v1/steps", io.MultiReader(bytes.NewReader(first), r))
	if err != nil {
		return nil, err
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("registering the step: %w", err), w.Close())
	}
	var started Started
	answer := json.NewDecoder(resp.Body)
	if err := answer.Decode(&started); err != nil {
		return nil, errors.Join(fmt.Errorf("registering the step: %w", err), w.Close(), resp.Body.Close())
	}
	step := &Step{ID: started.ID, body: w, resp: resp.Body, done: make(chan error, 1), said: make(chan struct{})}
	lines := make(chan string, maxLines)
	go func() {
		defer close(lines)
		step.done <- listen(answer, lines)
	}()
	go func() {
		defer close(step.said)
		for line := range lines {
			if say != nil {
				say(line)
			}
		}
	}()
	return step, nil
}

// maxLines is how many lines wait to be handed on: more than a step is told.
const maxLines = 64

// listen takes what the step is told, until its end is recorded. It never
// waits for who writes it.
func listen(answer *json.Decoder, lines chan<- string) error {
	for {
		var n notice
		err := answer.Decode(&n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case lines <- n.Notice:
		default:
		}
	}
}

// lastWords is how long the end of a step waits for its last lines to be
// written: a build that does not read its log must not hold up the step.
const lastWords = 50 * time.Millisecond

// Exit reports how the step ended, waits until that is recorded, and a moment
// for the last lines to be handed on.
func (s *Step) Exit(code int) error {
	err := json.NewEncoder(s.body).Encode(exit{code})
	err = errors.Join(err, s.body.Close())
	if err := errors.Join(err, <-s.done, s.resp.Close()); err != nil {
		return fmt.Errorf("reporting the end of the step: %w", err)
	}
	late := time.NewTimer(lastWords)
	defer late.Stop()
	select {
	case <-s.said:
	case <-late.C:
	}
	return nil
}

// Events copies records of a build, "" for the cage's own, from number from on
// to w until the end record.
func (c *Client) Events(ctx context.Context, token string, from uint64, w io.Writer) error {
	query := url.Values{"from": {strconv.FormatUint(from, 10)}, "build": {token}}
	req, err := request(ctx, http.MethodGet, "/v1/events?"+query.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return fmt.Errorf("following events: %w", err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(w, resp.Body); err != nil {
		return fmt.Errorf("following events: %w", err)
	}
	return nil
}

// Seal ends a build, "" for the whole cage, and its record.
func (c *Client) Seal(ctx context.Context, token string) error {
	req, err := request(ctx, http.MethodPost, "/v1/seal?"+url.Values{"build": {token}}.Encode(), nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return fmt.Errorf("sealing the record: %w", err)
	}
	return resp.Body.Close()
}

func request(ctx context.Context, method, path string, body io.Reader) (*http.Request, error) {
	return http.NewRequestWithContext(ctx, method, "http://caged"+path, body)
}

// do turns a refusal into an error with its text.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 4096))
	return nil, errors.Join(errors.New(string(bytes.TrimSpace(text))), err, resp.Body.Close())
}
