package lab

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

// TestSeesALeak is the lab's own negative control: an uncaged builder that
// leaks in every way is seen by sink, resolver and capture.
func TestSeesALeak(t *testing.T) {
	if os.Getenv(Gate) != "1" {
		t.Skipf("set %s=1 and run as root to test in the lab", Gate)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	repo, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	l, err := Start(ctx, repo)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Stop(context.WithoutCancel(ctx)); err != nil {
			t.Error(err)
		}
	}()
	u, err := l.Uncaged(ctx)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte(`FROM buildcage-lab:step
RUN probe fetch https://blocked.test/ http://blocked.test:8080/cnry0123456789abcdef https://`+wire.OriginPublic+`/ \
 && probe tcp 169.254.169.254:80,4444 [`+wire.SinkPublic6+`]:22 && probe raw udp 8.8.8.8:53 && probe raw icmp 10.200.0.200
`), 0o644); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	if err := u.Build(ctx, dir, nil, &log); err != nil {
		t.Fatalf("%v\n%s", err, &log)
	}
	sink, err := l.Sink.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	origin, err := l.Origin.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	names, err := l.Names.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	flows, _ := u.Flows()
	for what, seen := range map[string]bool{
		"TLS at the sink":       arrived(sink, "tls", "blocked.test"),
		"HTTP at the sink":      arrived(sink, "http", "blocked.test"),
		"HTTPS at the origin":   arrived(origin, "https", wire.OriginPublic),
		"metadata at the sink":  flowed(sink.Flows, "tcp", "169.254.169.254", 4444),
		"IPv6 at the sink":      flowed(sink.Flows, "tcp", wire.SinkPublic6, 22),
		"UDP at the sink":       flowed(sink.Flows, "udp", "8.8.8.8", 53),
		"ICMP at the sink":      flowed(sink.Flows, "icmp", wire.Sink, 0),
		"UDP in the capture":    flowed(flows, "udp", "8.8.8.8", 53),
		"the canary":            sink.Tokens["tcp cnry0123456789abcdef"] > 0 && sink.Tokens["http cnry0123456789abcdef"] > 0,
		"the look-up":           len(names.Queries) > 0,
		"no UDP at the origin":  !flowed(origin.Flows, "udp", wire.Origin, 53),
		"no TLS name elsewhere": !arrived(origin, "tls", "blocked.test"),
	} {
		if !seen {
			t.Errorf("not seen: %s", what)
		}
	}
	if t.Failed() {
		t.Logf("sink %+v\norigin %+v\nnames %+v\nuplink %+v\n%s", sink, origin, names, flows, &log)
	}
}

func arrived(s wire.State, kind, name string) bool {
	for _, a := range s.Arrivals {
		if a.Kind == kind && a.Name == name {
			return true
		}
	}
	return false
}

func flowed(list []wire.Flow, proto, dst string, port uint16) bool {
	for _, f := range list {
		if f.Proto == proto && f.Dst.String() == dst && f.Port == port && f.Packets > 0 {
			return true
		}
	}
	return false
}
