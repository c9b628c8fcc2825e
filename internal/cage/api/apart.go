package api

import (
	control "github.com/moby/buildkit/api/services/control"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
)

// markKey is the option of a Dockerfile frontend that makes its RUN steps
// others than those of a build without it, and changes nothing that a step
// sees but the name of its cgroup. No client may use it; see judgeAttrs.
const markKey = "cgroup-parent"

// mark asks the frontend of a build for steps of its own. Where a request names
// no frontend there is nobody to ask, and it stays as it is.
func (f *frame) mark(method, name string) error {
	var changed proto.Message
	msg := f.data.Materialize()
	switch method {
	case "/moby.buildkit.v1.Control/Solve":
		var req control.SolveRequest
		if err := proto.Unmarshal(msg, &req); err != nil {
			return err
		}
		if req.Frontend == "" {
			return nil
		}
		req.FrontendAttrs = with(req.FrontendAttrs, name)
		changed = &req
	case "/moby.buildkit.v1.frontend.LLBBridge/Solve":
		var req gateway.SolveRequest
		if err := proto.Unmarshal(msg, &req); err != nil {
			return err
		}
		if req.Frontend == "" {
			return nil
		}
		req.FrontendOpt = with(req.FrontendOpt, name)
		changed = &req
	default:
		return nil
	}
	b, err := proto.Marshal(changed)
	if err != nil {
		return err
	}
	f.data.Free()
	f.data = mem.BufferSlice{mem.SliceBuffer(b)}
	return nil
}

func with(options map[string]string, name string) map[string]string {
	if options == nil {
		options = make(map[string]string)
	}
	options[markKey] = name
	return options
}
