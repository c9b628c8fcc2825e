package supervise

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/tenant"
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

func TestSources(t *testing.T) {
	at := func(s int) time.Time {
		if s == 0 {
			return time.Time{}
		}
		return time.Unix(int64(s), 0)
	}
	note := func(s *sources, name string, from, to int) {
		s.note(vertex.Vertex{Build: "b", Digest: name, Name: name, Started: at(from), Completed: at(to)})
	}
	// Every second a byte comes from each of three hosts.
	moved := func(from, to time.Time) map[string]proxy.Traffic {
		n := proxy.Traffic{Down: int64(to.Sub(from) / time.Second)}
		return map[string]proxy.Traffic{"a.example:443": n, "b.example:443": n, "cdn.example:443": n}
	}
	for name, tc := range map[string]struct {
		fill func(s *sources)
		want []event.Source
	}{
		"alone, twice": {
			func(s *sources) {
				note(s, "ADD https://a.example/x /", 1, 0)
				note(s, "ADD https://a.example/x /", 1, 3)
				note(s, "ADD https://a.example/x /", 4, 5)
			},
			[]event.Source{{Ref: "ADD https://a.example/x /", Host: "a.example", Down: 9, Hosts: []string{"a.example:443", "b.example:443", "cdn.example:443"}}},
		},
		"two hosts at once": {
			func(s *sources) {
				note(s, "ADD https://a.example/x /", 1, 3)
				note(s, "ADD https://b.example/x /", 2, 5)
			},
			[]event.Source{
				{Ref: "ADD https://a.example/x /", Host: "a.example", Down: 2, Hosts: []string{"a.example:443"}},
				{Ref: "ADD https://b.example/x /", Host: "b.example", Down: 3, Hosts: []string{"b.example:443"}},
			},
		},
		"one host at once": {
			func(s *sources) {
				note(s, "ADD https://a.example/x /", 1, 3)
				note(s, "ADD https://a.example/y /", 2, 5)
			},
			[]event.Source{{Ref: "ADD https://a.example/x / + ADD https://a.example/y /", Host: "a.example", Down: 12,
				Hosts: []string{"a.example:443", "b.example:443", "cdn.example:443"}}},
		},
		"one host at once, beside another": {
			func(s *sources) {
				note(s, "ADD https://a.example/x /", 1, 3)
				note(s, "ADD https://b.example/z /", 2, 4)
				note(s, "ADD https://a.example/y /", 2, 5)
			},
			[]event.Source{
				{Ref: "ADD https://a.example/x / + ADD https://a.example/y /", Host: "a.example", Down: 4, Hosts: []string{"a.example:443"}},
				{Ref: "ADD https://b.example/z /", Host: "b.example", Down: 2, Hosts: []string{"b.example:443"}},
			},
		},
		"one host at once, in another build": {
			func(s *sources) {
				note(s, "ADD https://a.example/x /", 1, 3)
				s.note(vertex.Vertex{Build: "c", Digest: "other", Name: "ADD https://a.example/y /", Started: at(2), Completed: at(4)})
			},
			[]event.Source{{Ref: "ADD https://a.example/x /", Host: "a.example"}},
		},
		"plain HTTP at once": {
			func(s *sources) {
				s.request(&event.Conn{Name: "a.example", Port: 80, Path: "/x", Down: 7})
				s.request(&event.Conn{Name: "a.example", Port: 80, Path: "/x", Down: 1})
				note(s, "ADD http://a.example/x /", 1, 3)
				note(s, "ADD http://a.example/y /", 2, 5)
			},
			[]event.Source{
				{Ref: "ADD http://a.example/x /", Host: "a.example", Down: 8, Hosts: []string{"a.example:80"}},
				{Ref: "ADD http://a.example/y /", Host: "a.example"},
			},
		},
		"failed": {func(s *sources) {
			s.note(vertex.Vertex{Build: "b", Name: "[1/1] FROM x", Started: at(1), Completed: at(2), Error: "no"})
		}, nil},
		"cached": {func(s *sources) {
			s.note(vertex.Vertex{Build: "b", Name: "[1/1] FROM x", Started: at(1), Completed: at(2), Cached: true})
		}, nil},
		"another build": {func(s *sources) { s.note(vertex.Vertex{Build: "c", Name: "[1/1] FROM x", Started: at(1)}) }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var s sources
			tc.fill(&s)
			if d := cmp.Diff(tc.want, s.finish("b", moved)); d != "" {
				t.Errorf("-want +got:\n%s", d)
			}
			if again := s.finish("b", moved); again != nil {
				t.Errorf("told twice: %v", again)
			}
		})
	}
}

// A vertex that two builds wait for has moved what it moved once, and times
// that touch are not counted twice.
func TestSourceOfTwoBuilds(t *testing.T) {
	var s sources
	start := time.Unix(100, 0)
	note := func(build string, from, to time.Duration) {
		s.note(vertex.Vertex{Build: build, Digest: "d", Name: "[internal] load git source https://a.example/x.git", Started: start.Add(from), Completed: start.Add(to)})
	}
	moved := func(from, to time.Time) map[string]proxy.Traffic {
		return map[string]proxy.Traffic{"a.example:443": {Down: int64(to.Sub(from) / time.Millisecond)}}
	}
	down := func(build string) int64 {
		t.Helper()
		list := s.finish(build, moved)
		if len(list) != 1 {
			t.Fatalf("build %s: %v", build, list)
		}
		return list[0].Down
	}
	note("a", 0, 100*time.Millisecond)
	note("b", 0, 100*time.Millisecond)
	note("a", 101*time.Millisecond, 200*time.Millisecond)
	note("b", 101*time.Millisecond, 200*time.Millisecond)
	note("b", time.Second, 2*time.Second)
	if got, want := down("a"), int64(200+2*blur/time.Millisecond); got != want {
		t.Errorf("first build: %d, want %d", got, want)
	}
	if got, want := down("b"), int64(1000+2*blur/time.Millisecond); got != want {
		t.Errorf("second build: %d, want %d", got, want)
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
	us, others := new(tenant.Tenant), new(tenant.Tenant)
	ours := []*tenant.Tenant{us}
	before := time.Now()
	x.add(&event.Conn{Name: "r.example"}, "refused r.example", ours)
	x.add(&event.Conn{Name: "r.example"}, "refused r.example", ours)
	x.add(&event.Conn{Name: "other.example"}, "refused other.example", ours)
	if got := x.explain(us, before, `Head "https://r.example/v2/": tls`); got != "refused r.example" {
		t.Errorf("explained %q", got)
	}
	x.add(&event.Conn{Name: "web.example", Protocol: "http"}, "refused web.example", ours)
	if got := x.explain(us, before, "invalid response status 403"); got != "refused web.example" {
		t.Errorf("explained a status by %q", got)
	}
	if got := x.explain(us, time.Now(), `Head "https://r.example/v2/"`); got != "" {
		t.Errorf("an old refusal: %q", got)
	}
	if got := x.explain(us, before, "r.example: refused r.example"); got != "" {
		t.Errorf("said twice: %q", got)
	}
	for _, message := range []string{"r.example", "invalid response status 403"} {
		if got := x.explain(others, before, message); got != "" {
			t.Errorf("another build is told: %q", got)
		}
	}
}
