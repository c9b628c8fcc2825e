package main

import (
	"encoding/json"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGreet(t *testing.T) {
	for _, tt := range []struct{ accept, want string }{
		{"", "Hello, Ada"},
		{"de-CH, fr;q=0.5", "Hallo, Ada"},
		{"fr-CA", "Bonjour, Ada"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest("GET", "/greet/Ada", nil)
		r.Header.Set("Accept-Language", tt.accept)
		routes().ServeHTTP(w, r)
		var got greeting
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(greeting{ID: got.ID, Text: tt.want}, got); diff != "" || got.ID == "" {
			t.Errorf("%q: %s", tt.accept, diff)
		}
	}
}
