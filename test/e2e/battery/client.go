package battery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	control "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/solver/pb"
	spb "github.com/moby/buildkit/sourcepolicy/pb"

	"github.com/buildcage/buildcage/test/e2e/lab"
	"github.com/buildcage/buildcage/test/e2e/lab/attack"
)

// requests are the lines of a file of the context.
func (r *Run) requests(name string) (lines []string, err error) {
	data, err := os.ReadFile(filepath.Join(r.Dir, name))
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines, nil
}

// perLine bounds what one request may take.
const perLine = 8 * time.Second

// attackHook does the lines of FILE (see lab/attack) over the gateway API at
// the cage's front door, each in a build of its own.
func attackHook(ctx context.Context, r *Run, cage *lab.Cage, args []string) (string, error) {
	return r.eachRequest(ctx, cage, args, func(ctx context.Context, c *client.Client, line string) (text string, err error) {
		opt := client.SolveOpt{FrontendAttrs: map[string]string{}}
		if err := r.Lab.StepContext(&opt); err != nil {
			return "", err
		}
		var broken error
		_, err = c.Build(ctx, opt, "", func(ctx context.Context, c gateway.Client) (*gateway.Result, error) {
			text, broken = attack.Run(ctx, c, r.Lab.StepState(c.BuildOpts().SessionID), line)
			return gateway.NewResult(), nil
		}, nil)
		if err != nil {
			text += fmt.Sprintf("build: %v\n", err)
		}
		return text, broken
	})
}

// defineHook sends the exec lines of FILE as build graphs, without a frontend.
func defineHook(ctx context.Context, r *Run, cage *lab.Cage, args []string) (string, error) {
	return r.eachRequest(ctx, cage, args, func(ctx context.Context, c *client.Client, line string) (string, error) {
		opt := client.SolveOpt{FrontendAttrs: map[string]string{}}
		if err := r.Lab.StepContext(&opt); err != nil {
			return "", err
		}
		opt.FrontendAttrs = nil
		def, err := attack.Definition(ctx, r.Lab.StepState(""), line)
		if err != nil {
			return "", err
		}
		_, err = c.Solve(ctx, def, opt, nil)
		return fmt.Sprintf("%s: %v\n", line, err), nil
	})
}

func (r *Run) eachRequest(ctx context.Context, cage *lab.Cage, args []string, do func(context.Context, *client.Client, string) (string, error)) (string, error) {
	if len(args) != 1 {
		return "", errors.New("want a file with requests")
	}
	lines, err := r.requests(args[0])
	if err != nil {
		return "", err
	}
	c, err := Dial(ctx, cage)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var out strings.Builder
	for _, line := range lines {
		one, cancel := context.WithTimeout(ctx, perLine)
		text, err := do(one, c, line)
		cancel()
		out.WriteString(text)
		if err != nil {
			return out.String(), err
		}
	}
	return out.String(), nil
}

// malformed sends requests that no client makes: nothing set, garbage for a
// graph, digests that are none, a million operations.
func malformed(ctx context.Context, _ *Run, cage *lab.Cage, _ []string) (string, error) {
	c, err := Dial(ctx, cage)
	if err != nil {
		return "", err
	}
	defer c.Close()
	var out strings.Builder
	for _, q := range malformedRequests() {
		one, cancel := context.WithTimeout(ctx, perLine)
		_, err := c.ControlClient().Solve(one, q.req)
		cancel()
		fmt.Fprintf(&out, "%s: %v\n", q.name, err)
	}
	if _, err := c.Info(ctx); err != nil {
		return out.String(), fmt.Errorf("afterwards: %w", err)
	}
	return out.String() + "alive afterwards\n", nil
}

type request struct {
	name string
	req  *control.SolveRequest
}

func malformedRequests() []request {
	huge := make([][]byte, 1<<20)
	for i := range huge {
		huge[i] = []byte{}
	}
	garbage := [][]byte{{0xff, 0xff, 0xff}, []byte("not an operation")}
	return []request{
		{"empty", &control.SolveRequest{}},
		{"no frontend", &control.SolveRequest{Ref: "m1", Frontend: "nothing.v0"}},
		{"garbage", &control.SolveRequest{Ref: "m2", Definition: &pb.Definition{Def: garbage}}},
		{"huge", &control.SolveRequest{Ref: "m3", Definition: &pb.Definition{Def: huge}}},
		{"no digests", &control.SolveRequest{Ref: "m4", Definition: &pb.Definition{Def: [][]byte{{}}, Metadata: map[string]*pb.OpMetadata{"": nil}}}},
		{"nil inputs", &control.SolveRequest{Ref: "m5", Frontend: "dockerfile.v0", FrontendInputs: map[string]*pb.Definition{"context": nil}}},
		{"bad cache", &control.SolveRequest{Ref: "m6", Frontend: "dockerfile.v0", Cache: &control.CacheOptions{Imports: []*control.CacheOptionsEntry{{Type: "\x00"}}}}},
		{"no session", &control.SolveRequest{Ref: "m7", Frontend: "dockerfile.v0", Session: "none"}},
		{"long ref", &control.SolveRequest{Ref: strings.Repeat("r", 1<<16), Frontend: "dockerfile.v0"}},
	}
}

// sourcePolicy reads one as buildx does.
func (r *Run) sourcePolicy(name string) (*spb.Policy, error) {
	data, err := os.ReadFile(filepath.Join(r.Dir, name))
	if err != nil {
		return nil, err
	}
	p := new(spb.Policy)
	return p, json.Unmarshal(data, p)
}
