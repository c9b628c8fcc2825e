package supervise

import (
	"cmp"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
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

// finish returns what a build that is over has fetched, in its order.
func (s *sources) finish(build string, moved func(from, to time.Time) map[string]proxy.Traffic) []event.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []event.Source
	for _, one := range s.all {
		if one.build != build || one.failed || one.told {
			continue
		}
		one.told = true
		src := event.Source{Ref: event.Escape(one.ref), Host: event.EscapeMax(one.host, 255)}
		attribute(&src, s.traffic(one, moved))
		if strings.HasPrefix(one.ref, "resolve ") && src.Down == 0 {
			continue // answered from memory
		}
		list = append(list, src)
	}
	return list
}

// traffic is what was moved for one source, as far as that is certain: all
// that moved while no other was at work; else what moved to its own host, when
// no other at work has that; and plain HTTP by its address.
func (s *sources) traffic(one *source, moved func(from, to time.Time) map[string]proxy.Traffic) map[string]proxy.Traffic {
	for word := range strings.FieldsSeq(one.ref) {
		if t, ok := s.url[word]; ok {
			return map[string]proxy.Traffic{authority(word): t}
		}
	}
	alone, only := true, true
	for _, o := range s.all {
		if o.digest != one.digest && o.meets(one) {
			alone = false
			only = only && o.host != one.host && o.host != "" && one.host != ""
		}
	}
	total := make(map[string]proxy.Traffic)
	if !only {
		return total
	}
	for _, i := range s.untold(one) {
		for dest, t := range moved(i.from, i.to) {
			if host, _, err := net.SplitHostPort(dest); alone || err == nil && host == one.host {
				total[dest] = proxy.Traffic{Up: total[dest].Up + t.Up, Down: total[dest].Down + t.Down}
			}
		}
	}
	return total
}

// untold is when a vertex may have moved something, a little more than its
// times, each moment once: not what another build was told that waited for the
// same vertex, as the one that looks for the Dockerfile in a git context does.
func (s *sources) untold(one *source) (list []interval) {
	for _, i := range one.times {
		if slices.ContainsFunc(s.all, func(o *source) bool {
			return o != one && o.told && o.digest == one.digest &&
				slices.ContainsFunc(o.times, func(t interval) bool { return t.from.Equal(i.from) })
		}) {
			continue
		}
		i = interval{i.from.Add(-blur), i.to.Add(blur)}
		if n := len(list); n > 0 && i.from.Before(list[n-1].to) {
			if i.to.After(list[n-1].to) {
				list[n-1].to = i.to
			}
			continue
		}
		list = append(list, i)
	}
	return list
}

// authority is host:port of a plain HTTP url.
func authority(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80"))
}

func (o *source) meets(one *source) bool {
	for _, a := range o.times {
		if slices.ContainsFunc(one.times, a.meets) {
			return true
		}
	}
	return false
}

// fetched records what the builder fetched and sent for a build that is over.
func (p *parts) fetched(build string) {
	for _, src := range p.sources.finish(build, p.proxy.Fetched) {
		p.journal.Add(event.Record{Kind: event.KindSource, Source: &src})
	}
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
