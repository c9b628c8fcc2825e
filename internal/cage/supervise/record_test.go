package supervise

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/buildcage/buildcage/internal/event"
)

func TestPortsOf(t *testing.T) {
	for _, tc := range []struct {
		src  event.Source
		want []uint16
	}{
		{event.Source{Ref: "FROM alpine", Host: "registry-1.docker.io"}, []uint16{443, 80, 22}},
		{event.Source{Ref: "FROM r.example.com:5000/app:1", Host: "r.example.com"}, []uint16{5000}},
		{event.Source{Ref: "ADD http://a.example.com:8080/x", Host: "a.example.com", Hosts: []string{"a.example.com:8080", "b.example.com:443"}}, []uint16{8080, 8080}},
		{event.Source{Ref: "git git@g.example.com:team/x.git", Host: "g.example.com"}, []uint16{443, 80, 22}},
	} {
		if d := cmp.Diff(tc.want, portsOf(&tc.src)); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.src.Ref, d)
		}
	}
}
