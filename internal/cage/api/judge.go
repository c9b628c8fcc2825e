package api

import (
	"fmt"
	"strings"

	control "github.com/moby/buildkit/api/services/control"
	gateway "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"google.golang.org/protobuf/proto"

	"github.com/buildcage/buildcage/internal/event"
)

// Refusal is a request that the front door turned away.
type Refusal struct {
	Method string       // gRPC method
	Ref    string       // of the build, where known
	Reason event.Reason // entitlement-denied, invalid-mode, invalid-option, invalid-request or proxy-overload
	Detail string       // what was asked for; may hold hostile text
}

// Error is what the client sees.
func (r Refusal) Error() string {
	return fmt.Sprintf("buildcage: refused: %s (%s)", event.Escape(r.Detail), r.Reason)
}

// verdict of an inspector. The zero value forwards.
type verdict struct {
	refusal *Refusal
	ref     string // a build begins
	imports bool   // it takes results from a cache elsewhere
	watches string // ref of the build whose status is asked for
}

// inspector decodes one message and judges it. An error means that it does not decode.
type inspector func(msg []byte) (verdict, error)

var inspectors = map[string]inspector{
	"/moby.buildkit.v1.Control/Solve":                   inspectSolve,
	"/moby.buildkit.v1.Control/Status":                  inspectStatus,
	"/moby.buildkit.v1.frontend.LLBBridge/Solve":        inspectBridgeSolve,
	"/moby.buildkit.v1.frontend.LLBBridge/NewContainer": inspectNewContainer,
	"/moby.buildkit.v1.frontend.LLBBridge/ExecProcess":  inspectExecProcess,
}

func inspectSolve(msg []byte) (verdict, error) {
	var req control.SolveRequest
	if err := proto.Unmarshal(msg, &req); err != nil {
		return verdict{}, err
	}
	r := judgeSolve(&req)
	if r != nil {
		r.Ref = req.Ref
		return verdict{refusal: r}, nil
	}
	return verdict{ref: req.Ref, imports: imports(req.FrontendAttrs) || len(req.Cache.GetImports()) > 0}, nil
}

func inspectStatus(msg []byte) (verdict, error) {
	var req control.StatusRequest
	err := proto.Unmarshal(msg, &req)
	return verdict{watches: req.Ref}, err
}

func judgeSolve(req *control.SolveRequest) *Refusal {
	for _, e := range req.Entitlements {
		return &Refusal{Reason: event.EntitlementDenied, Detail: "entitlement " + e + " is not granted in the cage"}
	}
	if req.ProxyNetwork {
		return &Refusal{Reason: event.InvalidOption, Detail: "BuildKit's own proxy network: the cage judges the traffic already"}
	}
	return firstRefusal(
		judgeAttrs(req.FrontendAttrs),
		judgeDefinition(req.Definition),
		judgeInputs(req.FrontendInputs),
	)
}

func inspectBridgeSolve(msg []byte) (verdict, error) {
	var req gateway.SolveRequest
	if err := proto.Unmarshal(msg, &req); err != nil {
		return verdict{}, err
	}
	return verdict{refusal: firstRefusal(
		judgeAttrs(req.FrontendOpt),
		judgeDefinition(req.Definition),
		judgeInputs(req.FrontendInputs),
	), imports: imports(req.FrontendOpt) || len(req.CacheImports) > 0}, nil
}

func inspectNewContainer(msg []byte) (verdict, error) {
	var req gateway.NewContainerRequest
	if err := proto.Unmarshal(msg, &req); err != nil {
		return verdict{}, err
	}
	return verdict{refusal: judgeModes(req.Network, pb.SecurityMode_SANDBOX)}, nil
}

func inspectExecProcess(msg []byte) (verdict, error) {
	var req gateway.ExecMessage
	if err := proto.Unmarshal(msg, &req); err != nil {
		return verdict{}, err
	}
	initial := req.GetInit()
	if initial == nil {
		return verdict{}, nil
	}
	return verdict{refusal: firstRefusal(
		judgeModes(pb.NetMode_UNSET, initial.Security),
		judgeMeta(initial.Meta),
	)}, nil
}

func judgeInputs(inputs map[string]*pb.Definition) *Refusal {
	for _, def := range inputs {
		if r := judgeDefinition(def); r != nil {
			return r
		}
	}
	return nil
}

// judgeDefinition looks at every exec of an LLB graph.
func judgeDefinition(def *pb.Definition) *Refusal {
	if def == nil {
		return nil
	}
	for _, raw := range def.Def {
		var op pb.Op
		if err := proto.Unmarshal(raw, &op); err != nil {
			return &Refusal{Reason: event.InvalidRequest, Detail: "an operation of the build graph does not decode"}
		}
		if r := judgeExec(op.GetExec()); r != nil {
			return r
		}
	}
	return nil
}

func judgeExec(exec *pb.ExecOp) *Refusal {
	if exec == nil {
		return nil
	}
	if len(exec.CdiDevices) > 0 {
		return &Refusal{Reason: event.EntitlementDenied, Detail: "devices are not granted in the cage"}
	}
	return firstRefusal(judgeModes(exec.Network, exec.Security), judgeMeta(exec.Meta))
}

func judgeMeta(meta *pb.Meta) *Refusal {
	if meta != nil && meta.CgroupParent != "" {
		return &Refusal{Reason: event.InvalidOption, Detail: "cgroup parent " + meta.CgroupParent}
	}
	return nil
}

func judgeModes(network pb.NetMode, security pb.SecurityMode) *Refusal {
	switch network {
	case pb.NetMode_UNSET, pb.NetMode_NONE:
	case pb.NetMode_HOST:
		return &Refusal{Reason: event.EntitlementDenied, Detail: "entitlement network.host is not granted in the cage"}
	default:
		return &Refusal{Reason: event.InvalidMode, Detail: fmt.Sprintf("network mode %d", network)}
	}
	switch security {
	case pb.SecurityMode_SANDBOX:
		return nil
	case pb.SecurityMode_INSECURE:
		return &Refusal{Reason: event.EntitlementDenied, Detail: "entitlement security.insecure is not granted in the cage"}
	}
	return &Refusal{Reason: event.InvalidMode, Detail: fmt.Sprintf("security mode %d", security)}
}

// judgeAttrs looks at the options of the Dockerfile frontend that reach past the step.
func judgeAttrs(attrs map[string]string) *Refusal {
	for k, v := range attrs {
		switch strings.ToLower(k) {
		case "force-network-mode":
			if v != "" && v != "default" && v != "sandbox" && v != "none" {
				return &Refusal{Reason: event.EntitlementDenied, Detail: "network mode " + v + " for the whole build"}
			}
		case markKey:
			if v != "" {
				return &Refusal{Reason: event.InvalidOption, Detail: "cgroup parent " + v}
			}
		}
	}
	return nil
}

// imports reports whether the options of a frontend name a cache to import.
func imports(attrs map[string]string) bool {
	return attrs["cache-imports"] != "" || attrs["cache-from"] != ""
}

func firstRefusal(all ...*Refusal) *Refusal {
	for _, r := range all {
		if r != nil {
			return r
		}
	}
	return nil
}
