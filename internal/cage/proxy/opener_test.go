package proxy_test

import (
	"net/netip"
	"testing"

	"github.com/buildcage/buildcage/internal/cage/proxy"
	"github.com/buildcage/buildcage/internal/cage/step"
	"github.com/buildcage/buildcage/internal/event"
)

func TestProcessIsRecorded(t *testing.T) {
	l := newLab(t, anyPort(), func(s *proxy.Server) {
		s.Process = func(s *step.Step, _ int, client, orig netip.AddrPort) (func() *event.Process, *event.Process) {
			found := &event.Process{Exe: s.ID + " " + client.String() + " " + orig.String()}
			return func() *event.Process { return found }, nil
		}
	})
	conn := l.named("blocked.example.com", 22)
	wasReset(t, conn)
	want := "s1 " + conn.LocalAddr().String() + " " + netip.AddrPortFrom(fakeOf("blocked.example.com"), 22).String()
	if ev := l.next(); ev.Process == nil || ev.Process.Exe != want {
		t.Errorf("%+v, want %s", ev.Process, want)
	}
}

// A lookup that takes for ever holds nothing up, not even a refusal.
func TestSlowProcess(t *testing.T) {
	end := make(chan struct{})
	l := newLab(t, anyPort(), func(s *proxy.Server) {
		s.Process = func(*step.Step, int, netip.AddrPort, netip.AddrPort) (func() *event.Process, *event.Process) {
			return func() *event.Process {
				<-end
				return nil
			}, nil
		}
	})
	t.Cleanup(func() { close(end) })
	wasReset(t, l.named("blocked.example.com", 22))
	if ev := l.next(); ev.Verdict != event.Blocked || ev.Process == nil || ev.Process.Note == "" {
		t.Errorf("%+v", ev)
	}
}

// A bug in a lookup costs the process, not the verdict.
func TestProcessPanics(t *testing.T) {
	l := newLab(t, anyPort(), func(s *proxy.Server) {
		s.Process = func(*step.Step, int, netip.AddrPort, netip.AddrPort) (func() *event.Process, *event.Process) {
			return func() *event.Process { panic(errScripted) }, nil
		}
	})
	wasReset(t, l.named("blocked.example.com", 22))
	if ev := l.next(); ev.Verdict != event.Blocked || ev.Process == nil || ev.Process.Note != "panic: scripted" {
		t.Errorf("%+v", ev)
	}
	if l.server.Panics.Swap(0) != 1 {
		t.Error("panic was not counted")
	}
}
