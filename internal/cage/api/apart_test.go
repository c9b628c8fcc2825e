package api

import (
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"
	control "github.com/moby/buildkit/api/services/control"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc/metadata"
)

// A build that must not share its steps gets them from its frontend, however it
// asks, and no other request is changed.
func TestApart(t *testing.T) {
	own := map[string]string{"target": "t"}
	marked := map[string]string{"target": "t", "cgroup-parent": "mine"}
	for name, c := range map[string]struct {
		ref    string
		bridge bool
		front  string
		want   map[string]string
	}{
		"alone":            {"alone", false, "dockerfile.v0", own},
		"apart":            {"apart", false, "dockerfile.v0", marked},
		"gateway":          {"apart", true, "gateway.v0", marked},
		"gateway, alone":   {"alone", true, "gateway.v0", own},
		"no frontend":      {"apart", false, "", own},
		"gateway, no such": {"apart", true, "", own},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t, func(s *Server) {
				s.Apart = func(ref string) string { return map[string]string{"apart": "mine"}[ref] }
			})
			def := &pb.Definition{Source: &pb.Source{}}
			var err error
			if c.bridge {
				ctx := metadata.AppendToOutgoingContext(context.Background(), "buildkit-controlapi-buildid", c.ref)
				_, err = gateway.NewLLBBridgeClient(d.cc).Solve(ctx, &gateway.SolveRequest{Frontend: c.front, FrontendOpt: own, Definition: def})
			} else {
				_, err = control.NewControlClient(d.cc).Solve(context.Background(), &control.SolveRequest{Ref: c.ref, Frontend: c.front, FrontendAttrs: own, Definition: def})
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]map[string]string{c.want}, d.daemon.options); diff != "" {
				t.Errorf("BuildKit got (-want +got):\n%s", diff)
			}
		})
	}
}
