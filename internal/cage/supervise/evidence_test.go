package supervise

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/buildcage/buildcage/internal/cage/control"
	"github.com/buildcage/buildcage/internal/cage/evidence"
	"github.com/buildcage/buildcage/internal/cage/lab"
	"github.com/buildcage/buildcage/internal/cage/vertex"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

func (w *world) records(t *testing.T) []event.Record {
	t.Helper()
	var b bytes.Buffer
	must(t, w.ctl.Events(t.Context(), "", 1, &b))
	all, err := event.ReadAll(&b)
	must(t, err)
	return all
}

// A step runs and is refused something; in the next build the cache answers
// for it, and it is as if it had run.
func TestCachedStepIsJudged(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	w := newWorld(t, policy.Spec{
		Rules:        policy.RuleTexts{HTTP: []policy.Text{{Text: "allowed.example.com:80"}}},
		AllowPrivate: []policy.Text{{Text: "10.200.0.0/24"}},
	})
	var err error
	w.evidence, err = evidence.Open(t.TempDir())
	must(t, err)
	seen := func(build, digest string, cached bool) vertex.Vertex {
		v := vertex.Vertex{Build: build, Digest: digest, Name: "[deps 2/2] RUN fetch", Started: time.Unix(1, 0), Cached: cached}
		w.vertices.table.Observe(v)
		return v
	}
	seen("b1", "sha256:1", false)
	s := lab.NewStep(t, 2)
	running, err := w.ctl.Start(t.Context(), control.Start{
		Command: "fetch", NetNS: s.Path(), Traceparent: "00-1-00f067aa0ba902b7-01",
	}, nil)
	must(t, err)
	for _, host := range []string{"allowed.example.com", "denied.example.com"} {
		s.Do(t, func() error {
			fake, err := ask("198.18.0.1:53", host, dns.TypeA)
			if err == nil {
				_, _, err = get(fake, host)
			}
			return err
		})
	}
	must(t, running.Exit(0))
	w.vertices.table.Span("00f067aa0ba902b7", "sha256:1") // it comes after the end
	w.completed(w.house, seen("b2", "sha256:2", true))
	must(t, w.ctl.Seal(t.Context(), ""))

	var got []string
	for _, r := range w.records(t) {
		switch {
		case r.Step != nil && r.Step.Cached:
			e := r.Step.Evidence
			if e == nil || e.At.IsZero() || e.PolicyDigest != w.house.Policy.Digest() || e.Runs != 1 {
				t.Fatalf("evidence %+v", e)
			}
			got = append(got, "step "+r.Step.Stage+" "+string(e.Verdict))
		case r.Conn != nil && slices.Contains(r.Conn.Flags, evidence.FlagCached):
			got = append(got, string(r.Conn.Verdict)+" "+r.Conn.Name+" of "+r.Conn.Step)
		}
	}
	want := []string{"step deps violates", "allowed allowed.example.com of s2", "blocked denied.example.com of s2"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("record of the cached step (-want +got):\n%s", d)
	}
}

// Without a vertex the evidence has no place, and what it would have been for
// is never clean again.
func TestEvidenceWithoutVertexIsLost(t *testing.T) {
	if !lab.Enter(t) {
		return
	}
	w := newWorld(t, policy.Spec{})
	var err error
	w.evidence, err = evidence.Open(t.TempDir())
	must(t, err)
	must(t, w.evidence.Keep("k", "RUN fetch", evidence.Run{Command: "fetch"}))
	s := lab.NewStep(t, 2)
	for i, code := range []int{1, 0} {
		running, err := w.ctl.Start(t.Context(), control.Start{Command: "fetch", NetNS: s.Path()}, nil)
		must(t, err)
		must(t, running.Exit(code))
		w.vertices.ending.wait(context.Background(), nil)
		if lost := w.evidence.Look("k").Doubt != ""; lost != (code == 0) {
			t.Errorf("run %d, exit code %d: lost %v", i, code, lost)
		}
	}
}
