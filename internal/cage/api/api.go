// Package api is the front door of BuildKit: a gRPC server on a unix socket
// that forwards every call to stock buildkitd, byte for byte, and looks at the
// few that decide what a build may do. Requests that would weaken the cage are
// refused here, whatever client sent them. The rules:
//
//   - only services that a client of BuildKit needs are forwarded;
//   - calls that ask for entitlements, the host's network, devices or a cgroup
//     of their own are refused and recorded;
//   - a build that must not share its steps asks its frontend for steps of its own;
//   - nobody speaks of a build that came in by another door, where there are several;
//   - every build that passes is announced, so that its vertices can be watched.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/buildcage/buildcage/internal/event"
)

// Server is the front door. BuildKit is required.
type Server struct {
	// BuildKit is the path of buildkitd's unix socket.
	BuildKit string
	// Refused is told of every refusal; nil: nobody is.
	Refused func(Refusal)
	// Solving is told of the ref of every build just before it is forwarded; nil: nobody is.
	Solving func(ref string)
	// Importing is told of the ref of every build that takes results from a
	// cache elsewhere, before it can, and turns it away with false; nil: nobody is.
	Importing func(ref string) bool
	// Explain adds to the message of a build that failed since, "" for nothing;
	// nil: nobody does.
	Explain func(since time.Time, message string) string
	// Apart names the steps of a build that shall have none in common with others
	// that go on, "" for one that may; nil: all may.
	Apart func(ref string) string
	// Owns says whether the clients of this door may speak of a build; nil: of any.
	Owns func(ref string) bool
	// Trace is the trace id, as hex, that everything from this door gets, whatever
	// the client sends: BuildKit hands it on to the steps. Empty: what the client sends.
	Trace string
	// Log takes diagnostics; nil: none.
	Log *slog.Logger

	turned turned
}

// services that are forwarded, by full name. Everything else is unimplemented.
var services = map[string]bool{
	"moby.buildkit.v1.Control":                            true,
	"moby.buildkit.v1.frontend.LLBBridge":                 true,
	"containerd.services.content.v1.Content":              true,
	"opentelemetry.proto.collector.trace.v1.TraceService": true,
	"grpc.health.v1.Health":                               true,
}

// Serve answers on l until ctx ends, then stops at once. It returns nil after
// ctx has ended.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	upstream, err := Dial(s.BuildKit, grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{})))
	if err != nil {
		return err
	}
	defer upstream.Close()
	srv := grpc.NewServer(
		grpc.ForceServerCodecV2(rawCodec{}),
		grpc.UnknownServiceHandler(func(_ any, in grpc.ServerStream) error {
			return s.forward(in, upstream)
		}),
		grpc.MaxRecvMsgSize(math.MaxInt32), grpc.MaxSendMsgSize(math.MaxInt32),
		grpc.InitialWindowSize(window), grpc.InitialConnWindowSize(window),
	)
	stop := context.AfterFunc(ctx, srv.Stop)
	defer stop()
	if err := srv.Serve(l); err != nil && ctx.Err() == nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("serving the BuildKit API: %w", err)
	}
	return nil
}

// window lets one stream carry an image export without waiting for the other side.
const window = 4 << 20

// Dial connects to a gRPC server on a unix socket.
func Dial(socket string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	base := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithInitialWindowSize(window), grpc.WithInitialConnWindowSize(window),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(math.MaxInt32), grpc.MaxCallSendMsgSize(math.MaxInt32)),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		}),
	}
	cc, err := grpc.NewClient("passthrough:///buildkitd", append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("dialling buildkitd: %w", err)
	}
	return cc, nil
}

func (s *Server) forward(in grpc.ServerStream, upstream *grpc.ClientConn) error {
	method, ok := grpc.MethodFromServerStream(in)
	if !ok {
		return status.Error(codes.Internal, "no method in stream")
	}
	service, _, _ := strings.Cut(strings.TrimPrefix(method, "/"), "/")
	if !services[service] {
		return status.Errorf(codes.Unimplemented, "buildcage: %q is not forwarded", method)
	}
	if ref := buildOf(in.Context()); ref != "" && !s.owns(ref) {
		return s.refuse(foreign(method))
	}
	call := &call{server: s, method: method, inspect: inspectors[method], began: time.Now()}
	return call.pipe(in, upstream)
}

func (s *Server) owns(ref string) bool { return s.Owns == nil || s.Owns(ref) }

// foreign is the refusal to speak of a build of somebody else.
func foreign(method string) Refusal {
	return Refusal{Method: method, Reason: event.InvalidRequest, Detail: "the build belongs to another client of the cage"}
}

func (s *Server) refuse(r Refusal) error {
	s.turned.add(r.Ref)
	if s.Refused != nil {
		s.Refused(r)
	}
	return status.Error(codes.PermissionDenied, r.Error())
}
