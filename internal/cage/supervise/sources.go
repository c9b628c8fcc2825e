package supervise

import (
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/vertex"
	"github.com/buildcage/buildcage/internal/event"
)

// fetch is a vertex for which the builder itself talks to somebody.
type fetch struct {
	ref  string // as the Dockerfile or the command line has it
	host string // of ref, "" where it does not tell
}

// fetchOf says what a vertex fetches or sends, and whether it is one that does.
// An ADD is two vertices, of which the first fetches: the one without inputs.
func fetchOf(v vertex.Vertex) (fetch, bool) {
	name := vertex.ParseName(v.Name)
	text := name.Text
	first, rest, _ := strings.Cut(text, " ")
	switch {
	case v.Pushes != "":
		return fetch{"push " + v.Pushes, registryOf(v.Pushes)}, true
	case strings.HasPrefix(text, "exporting cache to registry"):
		return fetch{"export cache", ""}, true
	case v.Inputs != "":
	case first == "FROM" && rest != "scratch":
		image, _, _ := strings.Cut(rest, " ")
		return fetch{text, registryOf(image)}, true
	case first == "ADD" && hostOf(rest) != "":
		return fetch{text, hostOf(rest)}, true
	case name.Internal && strings.HasPrefix(text, "load metadata for "):
		image := strings.TrimPrefix(text, "load metadata for ")
		return fetch{"resolve " + image, registryOf(image)}, true
	case name.Internal && strings.HasPrefix(text, "load git source "):
		repo := strings.TrimPrefix(text, "load git source ")
		return fetch{"git " + repo, hostOf(repo)}, true
	case strings.HasPrefix(text, "importing cache manifest from "):
		image := strings.TrimPrefix(text, "importing cache manifest from ")
		return fetch{"import cache " + image, registryOf(image)}, true
	}
	return fetch{}, false
}

// hostOf is the host of the first url in text, git's short form included.
func hostOf(text string) string {
	for word := range strings.FieldsSeq(text) {
		if u, err := url.Parse(word); err == nil && u.Host != "" {
			return u.Hostname()
		}
		if at, path, ok := strings.Cut(word, ":"); ok && strings.HasPrefix(at, "git@") && path != "" {
			return strings.TrimPrefix(at, "git@")
		}
	}
	return ""
}

// registryOf is the host that the images of a reference come from.
func registryOf(image string) string {
	first, _, hasPath := strings.Cut(image, "/")
	if !hasPath || !strings.ContainsAny(first, ".:") && first != "localhost" {
		first = "docker.io"
	}
	if first == "docker.io" {
		return "registry-1.docker.io"
	}
	if host, _, err := net.SplitHostPort(first); err == nil {
		return host
	}
	return first
}

// sources are the vertices that fetch or fetched, for telling their traffic
// apart. The zero value is ready.
type sources struct {
	mu    sync.Mutex
	spans []span // the latest
}

type span struct {
	vertex   string
	from, to time.Time // to is zero while it goes on
}

const (
	maxSpans = 512
	// blur is how far a vertex's traffic may lie outside of its times.
	blur = 2 * 20 * time.Millisecond
)

// note keeps the times of a vertex up to date.
func (s *sources) note(v vertex.Vertex) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := v.Build + " " + v.Digest
	for i := range s.spans {
		if s.spans[i].vertex == id {
			s.spans[i].from, s.spans[i].to = v.Started, v.Completed
			return
		}
	}
	if len(s.spans) >= maxSpans {
		s.spans = s.spans[1:]
	}
	s.spans = append(s.spans, span{id, v.Started, v.Completed})
}

// alone reports whether no other vertex fetched while v did.
func (s *sources) alone(v vertex.Vertex) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	id := v.Build + " " + v.Digest
	for _, o := range s.spans {
		if o.vertex != id && o.from.Before(v.Completed) && (o.to.IsZero() || o.to.After(v.Started)) {
			return false
		}
	}
	return true
}

// fetching follows a vertex for which the builder itself talks to somebody.
func (p *parts) fetching(v vertex.Vertex) {
	f, ok := fetchOf(v)
	if !ok || v.Cached || v.Started.IsZero() {
		return
	}
	p.sources.note(v)
	if v.Completed.IsZero() || v.Error != "" {
		return
	}
	p.vertices.late.Go(func() {
		time.Sleep(blur) // the last bytes are counted, and others that began meanwhile known
		src := event.Source{Ref: event.Escape(f.ref), Host: event.EscapeMax(f.host, 255)}
		if p.sources.alone(v) {
			attribute(&src, p.proxy.Fetched(v.Started.Add(-blur), v.Completed.Add(blur)))
		}
		if strings.HasPrefix(f.ref, "resolve ") && src.Down == 0 {
			return // answered from memory
		}
		p.journal.Add(event.Record{Kind: event.KindSource, Source: &src})
	})
}

// attribute gives a source all that the builder moved.
func attribute(src *event.Source, moved map[string]proxy.Traffic) {
	var most int64
	unknown := src.Host == ""
	for _, dest := range slices.Sorted(maps.Keys(moved)) {
		t := moved[dest]
		src.Hosts = append(src.Hosts, event.EscapeMax(dest, 300))
		src.Down, src.Up = event.Add(src.Down, t.Down), event.Add(src.Up, t.Up)
		if host, _, err := net.SplitHostPort(dest); err == nil && unknown && t.Up+t.Down > most {
			most, src.Host = t.Up+t.Down, event.EscapeMax(host, 255)
		}
	}
	if len(src.Hosts) > maxHosts {
		src.Hosts = append(src.Hosts[:maxHosts], "...")
	}
}

// maxHosts is how many destinations a source lists.
const maxHosts = 8
