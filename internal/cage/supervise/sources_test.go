package supervise

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/vertex"
	"github.com/buildcage/buildcage/internal/event"
)

func TestFetchOf(t *testing.T) {
	for name, tc := range map[string]struct {
		v    vertex.Vertex
		want fetch
	}{
		"from":          {vertex.Vertex{Name: "[deps 1/3] FROM docker.io/library/node:22@sha256:1"}, fetch{"FROM docker.io/library/node:22@sha256:1", "registry-1.docker.io"}},
		"from, short":   {vertex.Vertex{Name: "[1/3] FROM node:22"}, fetch{"FROM node:22", "registry-1.docker.io"}},
		"from, port":    {vertex.Vertex{Name: "[1/3] FROM r.example.com:5000/a/b:1"}, fetch{"FROM r.example.com:5000/a/b:1", "r.example.com"}},
		"from scratch":  {vertex.Vertex{Name: "[1/3] FROM scratch"}, fetch{}},
		"add, fetching": {vertex.Vertex{Name: "[2/3] ADD https://a.example/x.tar /"}, fetch{"ADD https://a.example/x.tar /", "a.example"}},
		"add, copying":  {vertex.Vertex{Name: "[2/3] ADD https://a.example/x.tar /", Inputs: "sha256:1"}, fetch{}},
		"add, local":    {vertex.Vertex{Name: "[2/3] ADD x.tar /"}, fetch{}},
		"add, ssh":      {vertex.Vertex{Name: "[2/3] ADD git@git.example:a/b.git /b"}, fetch{"ADD git@git.example:a/b.git /b", "git.example"}},
		"git context":   {vertex.Vertex{Name: "[internal] load git source https://git.example/a.git"}, fetch{"git https://git.example/a.git", "git.example"}},
		"resolve":       {vertex.Vertex{Name: "[internal] load metadata for r.example/x:1"}, fetch{"resolve r.example/x:1", "r.example"}},
		"named context": {vertex.Vertex{Name: "[context base] load metadata for docker.io/x"}, fetch{}},
		"import":        {vertex.Vertex{Name: "importing cache manifest from r.example/c"}, fetch{"import cache r.example/c", "r.example"}},
		"export":        {vertex.Vertex{Name: "exporting cache to registry", Inputs: "x"}, fetch{"export cache", ""}},
		"push":          {vertex.Vertex{Name: "exporting to image", Inputs: "x", Pushes: "r.example/x:1@sha256:1"}, fetch{"push r.example/x:1@sha256:1", "r.example"}},
		"run":           {vertex.Vertex{Name: "[2/3] RUN FROM x"}, fetch{}},
	} {
		got, ok := fetchOf(tc.v)
		if d := cmp.Diff(tc.want, got, cmp.AllowUnexported(fetch{})); d != "" || ok != (tc.want != fetch{}) {
			t.Errorf("%s: %v (-want +got):\n%s", name, ok, d)
		}
	}
}

func TestSourcesAlone(t *testing.T) {
	at := func(s int) time.Time {
		if s == 0 {
			return time.Time{}
		}
		return time.Unix(int64(s), 0)
	}
	v := func(digest string, from, to int) vertex.Vertex {
		return vertex.Vertex{Build: "b", Digest: digest, Started: at(from), Completed: at(to)}
	}
	var s sources
	s.note(v("a", 1, 0))
	s.note(v("a", 1, 3))
	if !s.alone(v("a", 1, 3)) {
		t.Error("one vertex is not alone with itself")
	}
	s.note(v("b", 4, 6))
	s.note(v("c", 5, 0))
	for digest, want := range map[string]bool{"a": true, "b": false} {
		if got := s.alone(map[string]vertex.Vertex{"a": v("a", 1, 3), "b": v("b", 4, 6)}[digest]); got != want {
			t.Errorf("%s alone: %v", digest, got)
		}
	}
	for i := range 2 * maxSpans {
		s.note(v(string(rune(i+1000)), 7, 8))
	}
	if len(s.spans) != maxSpans {
		t.Errorf("%d are remembered", len(s.spans))
	}
}

func TestAttribute(t *testing.T) {
	var src event.Source
	attribute(&src, map[string]proxy.Traffic{"auth.example:443": {Up: 1, Down: 2}, "cdn.example:443": {Up: 3, Down: 90}})
	want := event.Source{Host: "cdn.example", Up: 4, Down: 92, Hosts: []string{"auth.example:443", "cdn.example:443"}}
	if d := cmp.Diff(want, src); d != "" {
		t.Error(d)
	}
	src = event.Source{Host: "r.example"}
	if attribute(&src, map[string]proxy.Traffic{"cdn.example:443": {Down: 90}}); src.Host != "r.example" {
		t.Errorf("the host of the reference became %q", src.Host)
	}
}

func TestTurned(t *testing.T) {
	var x turned
	before := time.Now()
	x.add(&event.Conn{Name: "r.example"}, "refused r.example")
	x.add(&event.Conn{Name: "r.example"}, "refused r.example")
	x.add(&event.Conn{Name: "other.example"}, "refused other.example")
	if got := x.explain(before, `Head "https://r.example/v2/": tls`); got != "refused r.example" {
		t.Errorf("explained %q", got)
	}
	if got := x.explain(time.Now(), `Head "https://r.example/v2/"`); got != "" {
		t.Errorf("an old refusal: %q", got)
	}
	if got := x.explain(before, "r.example: refused r.example"); got != "" {
		t.Errorf("said twice: %q", got)
	}
}
