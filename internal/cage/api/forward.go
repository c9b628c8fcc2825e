package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/buildcage/buildcage/internal/event"
)

// call is one forwarded RPC.
type call struct {
	server  *Server
	method  string
	inspect inspector // nil: nothing to look at
	began   time.Time
	watches chan string // refs that the client asks the status of
}

// pipe copies messages both ways until both sides are done. The status,
// headers and trailers of buildkitd reach the client unchanged.
func (c *call) pipe(in grpc.ServerStream, upstream *grpc.ClientConn) error {
	ctx, cancel := context.WithCancel(outgoing(in.Context(), c.server.Trace))
	defer cancel()
	desc := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	out, err := upstream.NewStream(ctx, desc, c.method)
	if err != nil {
		return err
	}
	c.watches = make(chan string)
	var refused <-chan struct{}
	stop := func() {}
	defer func() { stop() }()
	up := make(chan error, 1)
	go func() { up <- c.requests(ctx, in, out) }()
	down := make(chan error, 1)
	go func() { down <- responses(in, out) }()
	for {
		select {
		case err := <-up:
			if err != nil { // refused, or the client is gone
				return err
			}
			up = nil
		case err := <-down:
			in.SetTrailer(out.Trailer())
			return c.explained(err)
		case ref := <-c.watches:
			stop()
			refused, stop = c.server.turned.await(ref)
		case <-refused:
			return nil // there is nothing to tell of that build
		}
	}
}

// requests copies client → buildkitd, judging each message before it passes.
func (c *call) requests(ctx context.Context, in grpc.ServerStream, out grpc.ClientStream) error {
	for {
		var f frame
		err := in.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return out.CloseSend()
		}
		if err != nil {
			return err
		}
		if c.inspect != nil {
			if err := c.judge(ctx, in.Context(), &f); err != nil {
				f.data.Free()
				return err
			}
		}
		if err := out.SendMsg(&f); err != nil && !errors.Is(err, io.EOF) {
			return err // io.EOF: buildkitd ended the stream; responses has its status
		}
	}
}

func (c *call) judge(life, ctx context.Context, f *frame) error {
	verdict, err := c.inspect(f.data.Materialize())
	if err != nil {
		return c.server.refuse(Refusal{Method: c.method, Reason: "invalid-request", Detail: "the request does not decode"})
	}
	if verdict.refusal != nil {
		verdict.refusal.Method = c.method
		return c.server.refuse(*verdict.refusal)
	}
	for _, ref := range []string{verdict.ref, verdict.watches} {
		if ref != "" && !c.server.owns(ref) {
			return c.server.refuse(foreign(c.method))
		}
	}
	if verdict.watches != "" {
		select {
		case c.watches <- verdict.watches:
		case <-life.Done():
		}
	}
	if verdict.ref != "" && c.server.Solving != nil {
		c.server.Solving(verdict.ref)
	}
	ref := cmp.Or(verdict.ref, buildOf(ctx))
	if verdict.imports && c.server.Importing != nil && !c.server.Importing(ref) {
		return c.server.refuse(Refusal{Method: c.method, Reason: event.Overload, Detail: "too many builds that have not begun import a cache"})
	}
	return c.apart(ref, f)
}

// apart changes the request of a build that must not share its steps.
func (c *call) apart(ref string, f *frame) error {
	if ref == "" || c.server.Apart == nil {
		return nil
	}
	name := c.server.Apart(ref)
	if name == "" {
		return nil
	}
	return f.mark(c.method, name)
}

// explained adds to the error of a build what the cage knows of it.
func (c *call) explained(err error) error {
	if err == nil || c.server.Explain == nil || !strings.HasSuffix(c.method, "/Solve") {
		return err
	}
	s := status.Convert(err).Proto()
	more := c.server.Explain(c.began, s.Message)
	if more == "" {
		return err
	}
	s.Message += "; " + more
	return status.FromProto(s).Err()
}

// buildOf is the ref of the build that a frontend's call belongs to, as
// buildkitd finds it: in the call's metadata.
func buildOf(ctx context.Context) string {
	if ids := metadata.ValueFromIncomingContext(ctx, "buildkit-controlapi-buildid"); len(ids) > 0 {
		return ids[0]
	}
	return ""
}

// responses copies buildkitd → client.
func responses(in grpc.ServerStream, out grpc.ClientStream) error {
	header, err := out.Header()
	if err != nil {
		return err
	}
	if err := in.SendHeader(header); err != nil {
		return err
	}
	for {
		var f frame
		err := out.RecvMsg(&f)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := in.SendMsg(&f); err != nil {
			return status.FromContextError(errors.Join(err, context.Canceled)).Err()
		}
	}
}

// outgoing turns the client's metadata into ours.
func outgoing(ctx context.Context, trace string) context.Context {
	md, ok := metadata.FromIncomingContext(ctx)
	if !ok {
		md = metadata.MD{}
	}
	md = md.Copy()
	if trace != "" {
		delete(md, "tracestate")
		md.Set("traceparent", traceparent(trace))
	}
	for _, k := range []string{":authority", "content-type", "user-agent", "grpc-accept-encoding"} {
		delete(md, k)
	}
	return metadata.NewOutgoingContext(ctx, md)
}

// traceparent is a W3C header value for a new span of trace, sampled.
func traceparent(trace string) string {
	var span [8]byte
	rand.Read(span[:]) // never fails
	return "00-" + trace + "-" + hex.EncodeToString(span[:]) + "-01"
}
