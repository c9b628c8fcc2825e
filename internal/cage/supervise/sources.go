package supervise

import (
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/tenant"
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
	mu  sync.Mutex
	all []*source                // the latest, of all builds
	url map[string]proxy.Traffic // of plain HTTP, which tells exactly
}

// source is a vertex that fetches. BuildKit may come back to it: once for the
// key of its result, once for the result.
type source struct {
	fetch
	build, digest string
	times         []interval
	failed, told  bool
}

type interval struct{ from, to time.Time } // to is zero while it goes on

func (i interval) meets(o interval) bool {
	return (o.to.IsZero() || i.from.Before(o.to)) && (i.to.IsZero() || o.from.Before(i.to))
}

const (
	maxSources = 512
	maxURLs    = 512
	// blur is how far a vertex's traffic may lie outside of its times.
	blur = 40 * time.Millisecond
)

// note keeps what is known of a vertex up to date.
func (s *sources) note(v vertex.Vertex) {
	f, ok := fetchOf(v)
	if !ok || v.Cached || v.Started.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.all, func(o *source) bool { return o.build == v.Build && o.digest == v.Digest })
	if i < 0 {
		if len(s.all) >= maxSources {
			s.all = s.all[1:]
		}
		s.all = append(s.all, &source{build: v.Build, digest: v.Digest})
		i = len(s.all) - 1
	}
	one := s.all[i]
	one.fetch, one.failed = f, v.Error != ""
	now := interval{v.Started, v.Completed}
	if n := len(one.times); n > 0 && one.times[n-1].from.Equal(now.from) {
		one.times[n-1] = now
		return
	}
	one.times = append(one.times, now)
}

// request counts a plain HTTP request of the builder.
func (s *sources) request(c *event.Conn) {
	key := "http://" + c.Name + c.Path
	if c.Port != 80 {
		key = "http://" + net.JoinHostPort(c.Name, strconv.Itoa(int(c.Port))) + c.Path
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.url == nil {
		s.url = make(map[string]proxy.Traffic)
	}
	if t, known := s.url[key]; known || len(s.url) < maxURLs {
		s.url[key] = proxy.Traffic{Up: event.Add(t.Up, c.Up), Down: event.Add(t.Down, c.Down)}
	}
}

// fetched records what the builder fetched and sent for a build that is over.
func (p *parts) fetched(t *tenant.Tenant, build string) {
	for _, src := range p.sources.finish(build, p.proxy.Fetched) {
		t.Journal.Add(event.Record{Kind: event.KindSource, Source: &src})
		p.overreached(t, &src)
	}
}

// fetching are the builds that fetch from a host now.
func (s *sources) fetching(host string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var refs []string
	for _, one := range s.all {
		if n := len(one.times); n > 0 && host != "" && one.host == host && one.times[n-1].to.IsZero() {
			refs = append(refs, one.build)
		}
	}
	return refs
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
