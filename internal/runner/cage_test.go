package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/docker/dockertest"
	"github.com/buildcage/buildcage/internal/event"
	"github.com/buildcage/buildcage/internal/policy"
)

// The embedded image, for real: it boots in the confinement that the host
// gives it, BuildKit answers through the bridge, and the record is closed.
func TestRealCage(t *testing.T) {
	o := realOptions(t)
	o.Build = func(_ context.Context, b Endpoint) error {
		if b.BuildKit == "" {
			t.Error("no version of BuildKit")
		}
		return greet(b)
	}
	r := Run(t.Context(), o)
	if r.CageErr != nil || r.BuildErr != nil || !r.Complete {
		t.Fatalf("CageErr %v, BuildErr %v, problem %q", r.CageErr, r.BuildErr, r.Problem)
	}
	first, last := r.Records[0].Start, r.Records[len(r.Records)-1].End
	if first == nil || first.RunID != r.RunID || first.Mode != string(policy.Restrict) || last == nil || last.Reason != sealed {
		t.Errorf("record from %+v to %+v", first, last)
	}
}

// A cage that dies from within tells why, and the run takes it up.
func TestRealCageLosesBuildKit(t *testing.T) {
	o := realOptions(t)
	o.Build = func(ctx context.Context, b Endpoint) error {
		if err := greet(b); err != nil {
			return err
		}
		if err := signalInCage(ctx, o.Engine, "buildkitd"); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	}
	r := Run(t.Context(), o)
	if r.CageErr == nil || !strings.Contains(r.CageErr.Error(), "buildkitd") || r.BuildErr == nil {
		t.Fatalf("CageErr %v, BuildErr %v", r.CageErr, r.BuildErr)
	}
	if len(r.Records) == 0 {
		t.Fatal("no record")
	}
	if end := r.Records[len(r.Records)-1]; r.Complete && (end.Kind != event.KindEnd || end.End.Reason == sealed) {
		t.Errorf("the record ends as a good one: %+v", end.End)
	}
}

func realOptions(t *testing.T) Options {
	t.Helper()
	e := dockertest.Engine(t)
	t.Cleanup(func() { nothingOf(t, e) })
	return Options{Engine: e, Version: "test", Policy: policy.Spec{Mode: policy.Restrict}}
}

// nothingOf looks for what the engine keeps besides the image.
func nothingOf(t *testing.T, e *docker.Engine) {
	list, err := e.Client.ContainerList(context.WithoutCancel(t.Context()), client.ContainerListOptions{
		All: true, Filters: make(client.Filters).Add("name", e.Prefix+"-"),
	})
	if err != nil || len(list.Items) > 0 {
		t.Errorf("left: %v, %v", list.Items, err)
	}
}

// greet begins an HTTP/2 connection, as gRPC does, and expects the server's
// settings frame.
func greet(b Endpoint) error {
	conn, err := net.Dial("unix", strings.TrimPrefix(b.Addr, "unix://"))
	if err != nil {
		return err
	}
	defer conn.Close()
	const settings = "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	if _, err := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"+settings); err != nil {
		return err
	}
	var header [9]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return fmt.Errorf("reading BuildKit's first frame: %w", err)
	}
	if header[3] != 4 {
		return fmt.Errorf("BuildKit's first frame is of type %d", header[3])
	}
	return nil
}

// signalInCage kills a process of the cage from the engine's machine, which
// is this one.
func signalInCage(ctx context.Context, e *docker.Engine, name string) error {
	top, err := e.Client.ContainerTop(ctx, e.Prefix+"-0", client.ContainerTopOptions{Arguments: []string{"-eo", "pid,comm"}})
	if err != nil {
		return err
	}
	for _, process := range top.Processes {
		var pid int
		if process[1] != name {
			continue
		}
		if err := json.Unmarshal([]byte(process[0]), &pid); err != nil {
			return err
		}
		p, err := os.FindProcess(pid)
		if err != nil {
			return err
		}
		return p.Kill()
	}
	return fmt.Errorf("no process %q in %v", name, top.Processes)
}
