package vertex

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	control "github.com/moby/buildkit/api/services/control"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Watch follows the status stream of build ref until it ends, and tells change
// of every vertex whose state moved, with what was known before.
func (t *Table) Watch(ctx context.Context, cc *grpc.ClientConn, ref string, change func(before, now Vertex)) error {
	defer t.Done(ref)
	stream, err := control.NewControlClient(cc).Status(ctx, &control.StatusRequest{Ref: ref})
	if err != nil {
		return fmt.Errorf("watching build %s: %w", ref, err)
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("watching build %s: %w", ref, err)
		}
		for _, s := range resp.Statuses {
			if image, ok := strings.CutPrefix(s.ID, "pushing manifest for "); ok {
				t.push(ref, s.Vertex, image)
			}
		}
		for _, v := range resp.Vertexes {
			now := Vertex{
				Build: ref, Digest: v.Digest, Inputs: strings.Join(v.Inputs, " "), Name: v.Name, Cached: v.Cached, Error: v.Error,
				Started: when(v.Started), Completed: when(v.Completed),
			}
			now.Pushes = t.pushes(ref, v.Digest)
			if before, known := t.Observe(now); !known || before != now {
				change(before, now)
			}
		}
	}
}

func when(ts *timestamppb.Timestamp) time.Time {
	if ts == nil {
		return time.Time{}
	}
	return ts.AsTime()
}
