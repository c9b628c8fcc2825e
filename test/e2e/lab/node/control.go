package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// control lets the harness read and reset the counters; more are further
// handlers of this node.
func control(ctx context.Context, c *counter, more map[string]http.HandlerFunc) error {
	l, err := net.Listen("unix", wire.Control)
	if err != nil {
		return fmt.Errorf("listening for the harness: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(c.state()) // a harness that is gone needs no answer
	})
	mux.HandleFunc("POST /reset", func(http.ResponseWriter, *http.Request) {
		if c.drain != nil {
			c.drain()
		}
		c.reset()
	})
	for pattern, h := range more {
		mux.HandleFunc(pattern, h)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = srv.Close() })
	if err := srv.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serving the harness: %w", err)
	}
	return ctx.Err()
}
