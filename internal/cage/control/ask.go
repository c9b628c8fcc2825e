package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

// ask is one request for as long as somebody answers questions.
func (s *Server) ask(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	if s.Ask == nil {
		http.Error(w, "this cage asks nobody", http.StatusForbidden)
		return
	}
	rc := http.NewResponseController(w)
	if err := rc.EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	out := &begun{flusher: flusher{w, rc}}
	if err := s.Ask(r.Context(), r.URL.Query().Get("build"), r.Body, out); err != nil && !out.wrote {
		http.Error(w, err.Error(), http.StatusForbidden)
	}
}

// begun knows whether the answer has begun.
type begun struct {
	flusher
	wrote bool
}

func (b *begun) Write(p []byte) (int, error) {
	b.wrote = true
	return b.flusher.Write(p)
}

// Ask copies questions of a build, "" for the cage's own, to out, and answers
// from in, until in ends, which denies what is open.
func (c *Client) Ask(ctx context.Context, token string, in io.Reader, out io.Writer) error {
	r, w := io.Pipe()
	req, err := request(ctx, http.MethodPost, "/v1/ask?"+url.Values{"build": {token}}.Encode(), r)
	if err != nil {
		return err
	}
	go func() {
		_, err := io.Copy(w, in)
		w.CloseWithError(err)
	}()
	resp, err := c.do(req)
	if err != nil {
		return fmt.Errorf("waiting for questions: %w", err)
	}
	_, err = io.Copy(out, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
