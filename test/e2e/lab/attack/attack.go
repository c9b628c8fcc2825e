// Package attack asks BuildKit for what a hostile frontend or client would: it
// speaks the gateway API, past everything that a Dockerfile can say. One line is
// one request:
//
//	source http|git|image|oci|local REF      fetches it
//	exec [OPTION…] -- COMMAND…               an operation of the build graph
//	container [OPTION…] -- COMMAND…          a container of the gateway
//
// with the options net=host|none|NUMBER, security=insecure|NUMBER, cgroup=PATH,
// device=NAME and host=NAME=ADDRESS.
package attack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	"google.golang.org/protobuf/proto"
)

// Run does one line. The text is what came of it; the error is a broken line.
func Run(ctx context.Context, c client.Client, root llb.State, line string) (string, error) {
	words := strings.Fields(line)
	if len(words) == 0 {
		return "", nil
	}
	var err error
	var out string
	switch words[0] {
	case "source":
		if len(words) != 3 {
			return "", fmt.Errorf("%q: want source KIND REF", line)
		}
		err = source(ctx, c, words[1], words[2])
	case "exec", "container":
		o, optErr := parse(words[1:])
		if optErr != nil {
			return "", optErr
		}
		if words[0] == "exec" {
			err = o.exec(ctx, c, root)
		} else {
			out, err = o.container(ctx, c, root)
		}
	default:
		return "", fmt.Errorf("%q: unknown request", line)
	}
	text := "done"
	if err != nil {
		text = "error: " + err.Error()
	}
	return fmt.Sprintf("%s: %s\n%s", line, text, out), nil
}

func source(ctx context.Context, c client.Client, kind, ref string) error {
	var st llb.State
	switch kind {
	case "http":
		st = llb.HTTP(ref, llb.IgnoreCache)
	case "git":
		st = llb.Git(ref, "", llb.IgnoreCache)
	case "image":
		st = llb.Image(ref, llb.IgnoreCache)
	case "oci":
		st = llb.OCILayout(ref)
	case "local":
		st = llb.Local(ref)
	default:
		return fmt.Errorf("unknown source %q", kind)
	}
	_, err := solve(ctx, c, st)
	return err
}

func solve(ctx context.Context, c client.Client, st llb.State) (client.Reference, error) {
	def, err := st.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	return solveDefinition(ctx, c, def.ToPB())
}

func solveDefinition(ctx context.Context, c client.Client, def *pb.Definition) (client.Reference, error) {
	res, err := c.Solve(ctx, client.SolveRequest{Definition: def, Evaluate: true})
	if err != nil {
		return nil, err
	}
	return res.SingleRef()
}

// Definition is the build graph of an exec line, for a client that asks BuildKit
// without a frontend.
func Definition(ctx context.Context, root llb.State, line string) (*llb.Definition, error) {
	words := strings.Fields(line)
	if len(words) == 0 || words[0] != "exec" {
		return nil, fmt.Errorf("%q: only exec has a definition", line)
	}
	o, err := parse(words[1:])
	if err != nil {
		return nil, err
	}
	def, err := o.run(root).Marshal(ctx)
	if err != nil {
		return nil, err
	}
	list, err := o.rewrite(def.ToPB())
	if err != nil {
		return nil, err
	}
	out := new(llb.Definition)
	out.FromPB(list)
	return out, nil
}

// rewrite puts the modes into the exec of a graph, which llb itself would
// refuse, and names the operations behind it anew: an operation's name is its
// digest.
func (o *options) rewrite(def *pb.Definition) (*pb.Definition, error) {
	renamed := make(map[string]string)
	for i, raw := range def.Def {
		old := digest.FromBytes(raw).String()
		var op pb.Op
		if err := proto.Unmarshal(raw, &op); err != nil {
			return nil, err
		}
		if e := op.GetExec(); e != nil {
			e.Network, e.Security = o.network, o.security
		}
		for _, in := range op.Inputs {
			if name := renamed[in.Digest]; name != "" {
				in.Digest = name
			}
		}
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(&op)
		if err != nil {
			return nil, err
		}
		name := digest.FromBytes(raw).String()
		def.Def[i], renamed[old] = raw, name
		if m := def.Metadata[old]; m != nil && name != old {
			delete(def.Metadata, old)
			def.Metadata[name] = m
		}
	}
	def.Source = nil
	return def, nil
}

// options of exec and container.
type options struct {
	network        pb.NetMode
	security       pb.SecurityMode
	cgroup, device string
	host           *pb.HostIP
	args           []string
}

func parse(words []string) (*options, error) {
	o := &options{}
	for i, w := range words {
		if w == "--" {
			o.args = words[i+1:]
			return o, nil
		}
		key, value, _ := strings.Cut(w, "=")
		switch key {
		case "net":
			o.network = pb.NetMode(number(value, map[string]int{"host": int(pb.NetMode_HOST), "none": int(pb.NetMode_NONE)}))
		case "security":
			o.security = pb.SecurityMode(number(value, map[string]int{"insecure": int(pb.SecurityMode_INSECURE)}))
		case "cgroup":
			o.cgroup = value
		case "device":
			o.device = value
		case "host":
			name, address, _ := strings.Cut(value, "=")
			o.host = &pb.HostIP{Host: name, IP: address}
		default:
			return nil, fmt.Errorf("unknown option %q", w)
		}
	}
	return nil, errors.New("no -- before a command")
}

func number(text string, names map[string]int) int32 {
	if n, ok := names[text]; ok {
		return int32(n)
	}
	n, _ := strconv.ParseInt(text, 10, 32)
	return int32(n)
}

func (o *options) exec(ctx context.Context, c client.Client, root llb.State) error {
	def, err := o.run(root).Marshal(ctx)
	if err != nil {
		return err
	}
	list, err := o.rewrite(def.ToPB())
	if err != nil {
		return err
	}
	_, err = solveDefinition(ctx, c, list)
	return err
}

func (o *options) run(root llb.State) llb.State {
	opts := []llb.RunOption{llb.Args(o.args), llb.IgnoreCache, llb.WithCustomName("attack")}
	if o.cgroup != "" {
		opts = append(opts, llb.WithCgroupParent(o.cgroup))
	}
	if o.device != "" {
		opts = append(opts, llb.AddCDIDevice(llb.CDIDeviceName(o.device)))
	}
	if o.host != nil {
		opts = append(opts, llb.AddExtraHost(o.host.Host, net.ParseIP(o.host.IP)))
	}
	return root.Run(opts...).Root()
}

func (o *options) container(ctx context.Context, c client.Client, root llb.State) (string, error) {
	ref, err := solve(ctx, c, root)
	if err != nil {
		return "", fmt.Errorf("the root file system: %w", err)
	}
	req := client.NewContainerRequest{NetMode: o.network, Mounts: []client.Mount{{Dest: "/", MountType: pb.MountType_BIND, Ref: ref}}}
	if o.host != nil {
		req.ExtraHosts = []*pb.HostIP{o.host}
	}
	ctr, err := c.NewContainer(ctx, req)
	if err != nil {
		return "", err
	}
	defer func() { _ = ctr.Release(context.WithoutCancel(ctx)) }()
	var out bytes.Buffer
	process, err := ctr.Start(ctx, client.StartRequest{
		Args: o.args, Cwd: "/", Env: []string{"PATH=/bin"}, SecurityMode: o.security, Stdout: sink{&out}, Stderr: sink{&out},
	})
	if err != nil {
		return "", err
	}
	err = process.Wait()
	return out.String(), err
}

// sink is a writer that is closed by nobody.
type sink struct{ io.Writer }

func (sink) Close() error { return nil }
