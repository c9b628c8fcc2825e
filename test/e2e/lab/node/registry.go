package main

import (
	"io"
	"log"
	"net/http"
	"strings"

	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// images is a registry in memory. The harness fills it over the control socket.
func images() http.Handler { return registry.New(registry.Logger(log.New(io.Discard, "", 0))) }

// serveImages answers for all names of the registry, as each of them does.
func (s *server) serveImages(w http.ResponseWriter, r *http.Request) {
	switch host(r) {
	case wire.RealmRegistry:
		w.Header().Set("WWW-Authenticate", `Bearer realm="https://auth.blocked.test/token",service="realm",scope="repository:x:pull"`)
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	case wire.BlobRegistry:
		if strings.Contains(r.URL.Path, "/blobs/") {
			http.Redirect(w, r, "https://cdn.blocked.test"+r.URL.Path, http.StatusTemporaryRedirect)
			return
		}
	}
	s.images.ServeHTTP(w, r)
}
