// Command frontend is a hostile "# syntax" image: lines of the Dockerfile that
// begin with "#!" are attacks, which it does as the frontend before it builds the
// rest of the file. "#! run COMMAND…" runs in its own container; the others
// are those of package attack. As "frontend scan" it is an SBOM scanner
// that does not scan.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/frontend/gateway/grpcclient"
	_ "github.com/moby/buildkit/util/grpcutil/encoding/proto"

	"github.com/buildcage/buildcage/test/e2e/lab/attack"
	"github.com/buildcage/buildcage/test/e2e/lab/wire"
)

func main() {
	ctx := context.Background()
	if len(os.Args) > 1 && os.Args[1] == "scan" {
		scan(ctx)
		return
	}
	if err := grpcclient.RunFromEnvironment(ctx, build); err != nil {
		fmt.Fprintln(os.Stderr, "frontend: error:", err)
		os.Exit(1)
	}
}

// scan reaches out, and shows what it may do.
func scan(ctx context.Context) {
	for _, args := range [][]string{
		{"tls", "scanner.allowed.test:443", "scanner.blocked.test:443"}, {"tcp", "--timeout", "2s", "--send", `\x00`, wire.Sink + ":7777"}, {"caps"},
	} {
		probe(ctx, args)
	}
}

func probe(ctx context.Context, args []string) {
	cmd := exec.CommandContext(ctx, "/bin/probe", args...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	_ = cmd.Run() // what it says is not the oracle
}

func build(ctx context.Context, c client.Client) (*client.Result, error) {
	lines, err := attacks(ctx, c)
	if err != nil {
		return nil, err
	}
	root := llb.Image(wire.Registry + "/frontend:latest")
	for _, line := range lines {
		if command, ok := strings.CutPrefix(line, "run "); ok {
			probe(ctx, strings.Fields(command))
			continue
		}
		text, err := attack.Run(ctx, c, root, line)
		if err != nil {
			return nil, err
		}
		fmt.Fprint(os.Stderr, text)
	}
	return c.Solve(ctx, client.SolveRequest{Frontend: "dockerfile.v0", FrontendOpt: c.BuildOpts().Opts}) // "cmdline" is set: it does not come back here
}

// attacks are the lines of the Dockerfile that begin with "#! ".
func attacks(ctx context.Context, c client.Client) (lines []string, err error) {
	opts := c.BuildOpts().Opts
	name := opts["filename"]
	if name == "" {
		name = "Dockerfile"
	}
	def, err := llb.Local("dockerfile", llb.SessionID(c.BuildOpts().SessionID), llb.SharedKeyHint("dockerfile"), llb.IncludePatterns([]string{name})).Marshal(ctx)
	if err != nil {
		return nil, err
	}
	res, err := c.Solve(ctx, client.SolveRequest{Definition: def.ToPB()})
	if err != nil {
		return nil, err
	}
	ref, err := res.SingleRef()
	if err != nil {
		return nil, err
	}
	data, err := ref.ReadFile(ctx, client.ReadRequest{Filename: name})
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "#! "); ok {
			lines = append(lines, text)
		}
	}
	return lines, nil
}
