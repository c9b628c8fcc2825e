package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	control "github.com/moby/buildkit/api/services/control"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/buildcage/buildcage/internal/event"
)

// daemon is a gRPC server with BuildKit's API; it counts what reaches it.
type daemon struct {
	control.UnimplementedControlServer
	mu      sync.Mutex
	solved  []string
	options []map[string]string // of frontends

	watched chan string // refs whose status was asked for
	last    metadata.MD // of a solve
}

// asked is the metadata of the last solve.
func (d *daemon) asked() metadata.MD {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.last
}

// Status waits for a build that does not come, as BuildKit does.
func (d *daemon) Status(r *control.StatusRequest, s control.Control_StatusServer) error {
	d.watched <- r.Ref
	<-s.Context().Done()
	return s.Context().Err()
}

func (d *daemon) Solve(ctx context.Context, r *control.SolveRequest) (*control.SolveResponse, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last, _ = metadata.FromIncomingContext(ctx)
	d.solved = append(d.solved, r.Ref)
	d.options = append(d.options, r.FrontendAttrs)
	if r.Ref == "fails" {
		return nil, status.Error(codes.FailedPrecondition, "as asked")
	}
	return &control.SolveResponse{ExporterResponse: map[string]string{"ref": r.Ref}}, nil
}

func (d *daemon) Session(s control.Control_SessionServer) error {
	for {
		m, err := s.Recv()
		if err != nil {
			return nil
		}
		if err := s.Send(m); err != nil {
			return err
		}
	}
}

// bridge is the gateway half of the daemon.
type bridge struct {
	gateway.UnimplementedLLBBridgeServer
	*daemon
}

func (b bridge) Solve(_ context.Context, r *gateway.SolveRequest) (*gateway.SolveResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.options = append(b.options, r.FrontendOpt)
	return &gateway.SolveResponse{}, nil
}

func (b bridge) NewContainer(context.Context, *gateway.NewContainerRequest) (*gateway.NewContainerResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.solved = append(b.solved, "container")
	return &gateway.NewContainerResponse{}, nil
}

type door struct {
	daemon  *daemon
	cc      *grpc.ClientConn
	mu      sync.Mutex
	refused []Refusal
	solving []string

	importing []string
}

func newDoor(t *testing.T, options ...func(*Server)) *door {
	t.Helper()
	dir := t.TempDir()
	d := &door{daemon: &daemon{watched: make(chan string, 8)}}
	srv := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	control.RegisterControlServer(srv, d.daemon)
	gateway.RegisterLLBBridgeServer(srv, bridge{daemon: d.daemon})
	go srv.Serve(listen(t, filepath.Join(dir, "buildkitd.sock")))
	t.Cleanup(srv.Stop)

	s := &Server{
		BuildKit: filepath.Join(dir, "buildkitd.sock"),
		Refused:  func(r Refusal) { d.mu.Lock(); defer d.mu.Unlock(); d.refused = append(d.refused, r) },
		Solving:  func(ref string) { d.mu.Lock(); defer d.mu.Unlock(); d.solving = append(d.solving, ref) },
		Importing: func(ref string) bool {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.importing = append(d.importing, ref)
			return ref != "one too many"
		},
		Explain: func(_ time.Time, message string) string { return "explained " + message },
	}
	for _, set := range options {
		set(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	l := listen(t, filepath.Join(dir, "api.sock"))
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	cc, err := Dial(filepath.Join(dir, "api.sock"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	d.cc = cc
	return d
}

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func exec(e *pb.ExecOp) *pb.Definition {
	b, err := proto.Marshal(&pb.Op{Op: &pb.Op_Exec{Exec: e}})
	if err != nil {
		panic(err)
	}
	return &pb.Definition{Def: [][]byte{b}}
}

func TestSolveIsJudged(t *testing.T) {
	for name, c := range map[string]struct {
		req    *control.SolveRequest
		reason event.Reason // "": forwarded
	}{
		"plain":            {&control.SolveRequest{Frontend: "dockerfile.v0"}, ""},
		"network none":     {&control.SolveRequest{Definition: exec(&pb.ExecOp{Network: pb.NetMode_NONE})}, ""},
		"forced none":      {&control.SolveRequest{FrontendAttrs: map[string]string{"force-network-mode": "none"}}, ""},
		"network.host":     {&control.SolveRequest{Entitlements: []string{"network.host"}}, event.EntitlementDenied},
		"insecure":         {&control.SolveRequest{Entitlements: []string{"security.insecure"}}, event.EntitlementDenied},
		"device":           {&control.SolveRequest{Entitlements: []string{"device=vendor.example/tun"}}, event.EntitlementDenied},
		"forced host":      {&control.SolveRequest{FrontendAttrs: map[string]string{"force-network-mode": "host"}}, event.EntitlementDenied},
		"cgroup parent":    {&control.SolveRequest{FrontendAttrs: map[string]string{"cgroup-parent": "/x"}}, event.InvalidOption},
		"proxy network":    {&control.SolveRequest{ProxyNetwork: true}, event.InvalidOption},
		"exec host":        {&control.SolveRequest{Definition: exec(&pb.ExecOp{Network: pb.NetMode_HOST})}, event.EntitlementDenied},
		"exec mode 99":     {&control.SolveRequest{Definition: exec(&pb.ExecOp{Network: 99})}, event.InvalidMode},
		"exec insecure":    {&control.SolveRequest{Definition: exec(&pb.ExecOp{Security: pb.SecurityMode_INSECURE})}, event.EntitlementDenied},
		"exec security 99": {&control.SolveRequest{Definition: exec(&pb.ExecOp{Security: 99})}, event.InvalidMode},
		"exec device":      {&control.SolveRequest{Definition: exec(&pb.ExecOp{CdiDevices: []*pb.CDIDevice{{Name: "x"}}})}, event.EntitlementDenied},
		"exec cgroup":      {&control.SolveRequest{Definition: exec(&pb.ExecOp{Meta: &pb.Meta{CgroupParent: "/x"}})}, event.InvalidOption},
		"input host":       {&control.SolveRequest{FrontendInputs: map[string]*pb.Definition{"a": exec(&pb.ExecOp{Network: pb.NetMode_HOST})}}, event.EntitlementDenied},
		"undecodable op":   {&control.SolveRequest{Definition: &pb.Definition{Def: [][]byte{{0xff}}}}, event.InvalidRequest},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDoor(t)
			c.req.Ref = "r1"
			_, err := control.NewControlClient(d.cc).Solve(context.Background(), c.req)
			if c.reason == "" {
				if err != nil || len(d.daemon.solved) != 1 || len(d.solving) != 1 {
					t.Fatalf("err %v, solved %v, announced %v; want forwarded once", err, d.daemon.solved, d.solving)
				}
				return
			}
			if status.Code(err) != codes.PermissionDenied || len(d.daemon.solved) != 0 || len(d.solving) != 0 {
				t.Fatalf("err %v, solved %v; want refused and nothing forwarded", err, d.daemon.solved)
			}
			if len(d.refused) != 1 || d.refused[0].Reason != c.reason || d.refused[0].Ref != "r1" {
				t.Fatalf("recorded %+v; want one %s", d.refused, c.reason)
			}
		})
	}
}

func TestGatewayContainerIsJudged(t *testing.T) {
	d := newDoor(t)
	gw := gateway.NewLLBBridgeClient(d.cc)
	if _, err := gw.NewContainer(context.Background(), &gateway.NewContainerRequest{Network: pb.NetMode_HOST}); status.Code(err) != codes.PermissionDenied {
		t.Fatalf("host network: %v", err)
	}
	if _, err := gw.NewContainer(context.Background(), &gateway.NewContainerRequest{}); err != nil {
		t.Fatalf("default network: %v", err)
	}
	if len(d.daemon.solved) != 1 {
		t.Fatalf("reached the daemon: %v; want only the second", d.daemon.solved)
	}
}

func TestStatusOfBuildKitReachesTheClient(t *testing.T) {
	d := newDoor(t)
	_, err := control.NewControlClient(d.cc).Solve(context.Background(), &control.SolveRequest{Ref: "fails"})
	if s, _ := status.FromError(err); s.Code() != codes.FailedPrecondition || s.Message() != "as asked; explained as asked" {
		t.Fatalf("got %v", err)
	}
}

func TestUnknownServiceIsNotForwarded(t *testing.T) {
	d := newDoor(t)
	err := d.cc.Invoke(context.Background(), "/containerd.services.containers.v1.Containers/List", &control.InfoRequest{}, &control.InfoResponse{})
	if status.Code(err) != codes.Unimplemented {
		t.Fatalf("got %v", err)
	}
}

func TestSessionCarriesLargeMessagesBothWays(t *testing.T) {
	d := newDoor(t)
	s, err := control.NewControlClient(d.cc).Session(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 1, 1 << 20, 17 << 20} {
		want := bytes.Repeat([]byte{byte(size)}, size)
		if err := s.Send(&control.BytesMessage{Data: want}); err != nil {
			t.Fatal(err)
		}
		got, err := s.Recv()
		if err != nil || !bytes.Equal(got.Data, want) {
			t.Fatalf("%d bytes came back as %d: %v", size, len(got.GetData()), err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
}

// BuildKit lets a client wait for seconds that asks for a build it never heard
// of: the door answers for those that it turned away, whatever came first.
func TestStatusOfARefusedBuildEnds(t *testing.T) {
	d := newDoor(t)
	c := control.NewControlClient(d.cc)
	status := func(ref string) <-chan error {
		stream, err := c.Status(t.Context(), &control.StatusRequest{Ref: ref})
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { _, err := stream.Recv(); ended <- err }()
		return ended
	}
	refuse := func(ref string) {
		if _, err := c.Solve(t.Context(), &control.SolveRequest{Ref: ref, Entitlements: []string{"network.host"}}); err == nil {
			t.Fatal("not refused")
		}
	}
	early, other := status("r1"), status("r2")
	<-d.daemon.watched
	<-d.daemon.watched
	refuse("r1")
	refuse("r3")
	for name, ended := range map[string]<-chan error{"asked before": early, "asked after": status("r3")} {
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("%s: %v, want the end", name, err)
		}
	}
	select {
	case err := <-other:
		t.Errorf("another build's status ended: %v", err)
	default:
	}
}

func TestImportsAreAnnounced(t *testing.T) {
	d := newDoor(t)
	for _, req := range []*control.SolveRequest{
		{Ref: "plain"},
		{Ref: "attr", FrontendAttrs: map[string]string{"cache-imports": "[]"}},
		{Ref: "list", Cache: &control.CacheOptions{Imports: []*control.CacheOptionsEntry{{Type: "local"}}}},
	} {
		if _, err := control.NewControlClient(d.cc).Solve(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), "buildkit-controlapi-buildid", "frontend")
	req := &gateway.SolveRequest{CacheImports: []*gateway.CacheOptionsEntry{{Type: "registry"}}}
	if _, err := gateway.NewLLBBridgeClient(d.cc).Solve(ctx, req); err != nil {
		t.Fatal(err)
	}
	ctx = metadata.AppendToOutgoingContext(t.Context(), "buildkit-controlapi-buildid", "one too many")
	if _, err := gateway.NewLLBBridgeClient(d.cc).Solve(ctx, req); status.Code(err) != codes.PermissionDenied || len(d.refused) != 1 || d.refused[0].Reason != event.Overload {
		t.Errorf("error %v, refused %+v", err, d.refused)
	}
	if got := strings.Join(d.importing, " "); got != "attr list frontend one too many" {
		t.Errorf("announced %q", got)
	}
}

// A door marks what comes in with its own trace, whatever the client sends, and
// lets nobody speak of a build that is another's.
func TestBuildsOfOthers(t *testing.T) {
	trace := strings.Repeat("ab", 16)
	d := newDoor(t, func(s *Server) {
		s.Owns = func(ref string) bool { return ref == "ours" }
		s.Trace = trace
	})
	client := control.NewControlClient(d.cc)
	ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", "00-"+strings.Repeat("cd", 16)+"-0000000000000001-01", "tracestate", "x=y")
	if _, err := client.Solve(ctx, &control.SolveRequest{Ref: "ours"}); err != nil {
		t.Error(err)
	}
	if md := d.daemon.asked(); len(md["traceparent"]) != 1 || !strings.HasPrefix(md["traceparent"][0], "00-"+trace+"-") || len(md["tracestate"]) > 0 {
		t.Errorf("BuildKit was sent %v, %v", md["traceparent"], md["tracestate"])
	}
	denied := func(what string, err error) {
		t.Helper()
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v", what, err)
		}
	}
	_, err := client.Solve(t.Context(), &control.SolveRequest{Ref: "theirs"})
	denied("solve", err)
	stream, err := client.Status(t.Context(), &control.StatusRequest{Ref: "theirs"})
	if err == nil {
		_, err = stream.Recv()
	}
	denied("status", err)
	ctx = metadata.AppendToOutgoingContext(t.Context(), "buildkit-controlapi-buildid", "theirs")
	_, err = gateway.NewLLBBridgeClient(d.cc).Solve(ctx, &gateway.SolveRequest{})
	denied("a frontend's call", err)
}
