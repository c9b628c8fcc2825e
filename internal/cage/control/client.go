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
	"strconv"
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
	done io.ReadCloser
}

// Start registers a step. After an error it must not run.
func (c *Client) Start(ctx context.Context, s Start) (*Step, error) {
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
	if err := json.NewDecoder(resp.Body).Decode(&started); err != nil {
		return nil, errors.Join(fmt.Errorf("registering the step: %w", err), w.Close(), resp.Body.Close())
	}
	return &Step{ID: started.ID, body: w, done: resp.Body}, nil
}

// Exit reports how the step ended and waits until that is recorded.
func (s *Step) Exit(code int) error {
	err := json.NewEncoder(s.body).Encode(exit{code})
	err = errors.Join(err, s.body.Close())
	_, drained := io.Copy(io.Discard, s.done)
	if err := errors.Join(err, drained, s.done.Close()); err != nil {
		return fmt.Errorf("reporting the end of the step: %w", err)
	}
	return nil
}

// Events copies records from number from on to w until the end record.
func (c *Client) Events(ctx context.Context, from uint64, w io.Writer) error {
	req, err := request(ctx, http.MethodGet, "/v1/events?from="+strconv.FormatUint(from, 10), nil)
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

// Seal drains the cage and ends the record.
func (c *Client) Seal(ctx context.Context) error {
	req, err := request(ctx, http.MethodPost, "/v1/seal", nil)
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
