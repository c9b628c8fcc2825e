// Greeter is a small HTTP service with modules that are fetched at build time.
package main

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/google/uuid"
	"golang.org/x/text/language"
)

var greetings = map[language.Tag]string{
	language.English: "Hello",
	language.German:  "Hallo",
	language.French:  "Bonjour",
}

var matcher = language.NewMatcher([]language.Tag{language.English, language.German, language.French})

type greeting struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

func routes() http.Handler {
	r := chi.NewRouter()
	r.Use(middleware.Recoverer, middleware.Timeout(10*time.Second))
	r.Get("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	r.Get("/greet/{name}", greet)
	return r
}

func greet(w http.ResponseWriter, r *http.Request) {
	wanted, _, _ := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	_, i, _ := matcher.Match(wanted...)
	tag := []language.Tag{language.English, language.German, language.French}[i]
	w.Header().Set("Content-Type", "application/json")
	out := greeting{ID: uuid.NewString(), Text: greetings[tag] + ", " + chi.URLParam(r, "name")}
	if err := json.NewEncoder(w).Encode(out); err != nil {
		slog.Warn("writing greeting", "error", err)
	}
}

func main() {
	addr := os.Getenv("ADDR")
	if addr == "" {
		addr = ":8080"
	}
	server := &http.Server{Addr: addr, Handler: routes(), ReadHeaderTimeout: 5 * time.Second}
	slog.Info("listening", "addr", addr)
	if err := server.ListenAndServe(); err != nil {
		slog.Error("serving", "error", err)
		os.Exit(1)
	}
}
