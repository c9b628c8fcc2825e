package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// maxQuestion bounds the body of a request.
const maxQuestion = 8 << 20

// cache answers a request as its host did the first time. What a request asks
// on condition or in part is fetched whole.
type cache struct {
	dir      string
	upstream http.RoundTripper

	mu      sync.Mutex
	answers map[string]*answered
}

type answered struct {
	once   sync.Once
	file   string
	status int
	header http.Header
	err    error
}

func newCache(dir string, upstream http.RoundTripper) (*cache, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return &cache{dir: dir, upstream: upstream, answers: make(map[string]*answered)}, nil
}

func (c *cache) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxQuestion))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a := c.answer(r, body)
	if a.err != nil {
		http.Error(w, a.err.Error(), http.StatusBadGateway)
		return
	}
	f, err := os.Open(a.file)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer f.Close()
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.status)
	if r.Method != http.MethodHead {
		_, _ = io.Copy(w, f) // the client may be gone
	}
}

// answer is the one that was kept, or will be from now on.
func (c *cache) answer(r *http.Request, body []byte) *answered {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	address := scheme + "://" + r.Host + r.URL.RequestURI()
	sum := sha256.Sum256([]byte(strings.Join([]string{
		r.Method, address, r.Header.Get("Accept"), r.Header.Get("Accept-Encoding"), string(body),
	}, "\n")))
	key := hex.EncodeToString(sum[:])
	c.mu.Lock()
	a := c.answers[key]
	if a == nil {
		a = &answered{file: filepath.Join(c.dir, key)}
		c.answers[key] = a
	}
	c.mu.Unlock()
	a.once.Do(func() {
		if a.err = a.fetch(c.upstream, r, address, body); a.err != nil {
			c.mu.Lock()
			defer c.mu.Unlock()
			delete(c.answers, key) // the next one tries again
		}
	})
	return a
}

func (a *answered) fetch(upstream http.RoundTripper, r *http.Request, address string, body []byte) error {
	req, err := http.NewRequestWithContext(r.Context(), r.Method, address, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for _, name := range []string{"Accept", "Accept-Encoding", "Content-Type", "User-Agent"} {
		if v := r.Header.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	resp, err := upstream.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("fetching %s: %w", address, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusInternalServerError {
		return fmt.Errorf("fetching %s: %s", address, resp.Status)
	}
	f, err := os.Create(a.file)
	if err != nil {
		return err
	}
	size, err := io.Copy(f, resp.Body)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("fetching %s: %w", address, err)
	}
	a.status, a.header = resp.StatusCode, http.Header{}
	for _, name := range []string{"Content-Type", "Content-Encoding", "Etag", "Last-Modified", "Location"} {
		if v := resp.Header.Values(name); len(v) > 0 {
			a.header[name] = v
		}
	}
	if r.Method != http.MethodHead {
		a.header.Set("Content-Length", fmt.Sprint(size))
	} else if resp.ContentLength >= 0 {
		a.header.Set("Content-Length", fmt.Sprint(resp.ContentLength))
	}
	return nil
}
