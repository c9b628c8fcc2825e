package proxy

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/event"
)

func TestMeter(t *testing.T) {
	var s Server
	open := func(id, name string) *session {
		c := &session{Server: &s, step: &step.Step{Step: event.Step{ID: id}, Builder: id == event.BuilderStep}, origName: name}
		c.metered()
		return c
	}
	now := time.Now()
	begin, between, end := now.Add(-3*time.Second), now.Add(-time.Second), now
	a := open(event.BuilderStep, "a.example")
	open("s1", "step.example").up.Add(5) // not the builder's
	a.down.Add(100)
	s.fetched.mu.Lock()
	s.fetched.running = true // the ticks are ours
	s.fetched.sample(now.Add(-2 * time.Second))
	s.fetched.mu.Unlock()
	b := open(event.BuilderStep, "b.example")
	b.up.Add(7)
	a.down.Add(11)
	s.fetched.remove(a)
	s.fetched.remove(a)
	for name, tc := range map[string]struct {
		from, to time.Time
		want     map[string]Traffic
	}{
		"all":   {begin, end, map[string]Traffic{"a.example:0": {0, 111}, "b.example:0": {7, 0}}},
		"later": {between, end, map[string]Traffic{"a.example:0": {0, 11}, "b.example:0": {7, 0}}},
		"none":  {begin.Add(-time.Hour), begin, map[string]Traffic{}},
	} {
		if d := cmp.Diff(tc.want, s.Fetched(tc.from, tc.to)); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
	}
	s.fetched.remove(b)
	for i := range 2 * maxSamples {
		s.fetched.mu.Lock()
		s.fetched.ended["a.example:0"] = Traffic{Down: int64(i)}
		s.fetched.sample(time.Now())
		s.fetched.mu.Unlock()
	}
	if n := len(s.fetched.samples); n > maxSamples {
		t.Errorf("%d samples", n)
	}
	for range 2 * maxMetered {
		open(event.BuilderStep, time.Now().String())
	}
	if n := len(s.fetched.ended); n > maxMetered+1 {
		t.Errorf("%d destinations", n)
	}
}
