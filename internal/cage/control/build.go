package control

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/buildcage/buildcage/internal/contract"
)

// maxRegistration bounds what a client may send; a policy of thousands of rules fits.
const maxRegistration = 16 << 20

// build is one request for as long as a registered build lasts: the client
// sends who builds, reads the lease, and holds the request open. When it goes
// away without a word, the build has ended too.
func (s *Server) build(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Connection", "close")
	if s.Register == nil {
		http.Error(w, "this cage is not for registered builds", http.StatusForbidden)
		return
	}
	if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	body := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRegistration))
	var registration contract.Registration
	if err := body.Decode(&registration); err != nil {
		http.Error(w, "reading the registration: "+err.Error(), http.StatusBadRequest)
		return
	}
	lease, left, err := s.Register(registration)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	defer left()
	out := flusher{w, http.NewResponseController(w)}
	if err := json.NewEncoder(out).Encode(lease); err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, body.Buffered())
	_, _ = io.Copy(io.Discard, r.Body) // until the client goes, however it does
}

func (s *Server) inventory(w http.ResponseWriter, _ *http.Request) {
	if s.Inventory == nil {
		http.Error(w, "this cage does not tell", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.Inventory()) // the client may be gone
}

// Register lets a build in that lasts until in ends or ctx does: the registration
// is the first line of in, the lease is written to out.
func (c *Client) Register(ctx context.Context, in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	first, err := lines.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("reading the registration: %w", err)
	}
	r, w := io.Pipe()
	req, err := request(ctx, http.MethodPost, "/v1/builds", io.MultiReader(bytes.NewReader(first), r))
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return errors.Join(json.NewEncoder(out).Encode(contract.Lease{Error: err.Error()}), w.Close())
	}
	go func() {
		_, _ = io.Copy(io.Discard, lines)
		w.Close()
	}()
	_, err = io.Copy(out, resp.Body)
	return errors.Join(err, resp.Body.Close())
}

// Inventory writes what goes on in the cage to out.
func (c *Client) Inventory(ctx context.Context, out io.Writer) error {
	req, err := request(ctx, http.MethodGet, "/v1/inventory", nil)
	if err != nil {
		return err
	}
	resp, err := c.do(req)
	if err != nil {
		return fmt.Errorf("asking the cage: %w", err)
	}
	_, err = io.Copy(out, resp.Body)
	return errors.Join(err, resp.Body.Close())
}
