package runner

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/docker"
	"github.com/buildcage/buildcage/internal/docker/dockertest"
	"github.com/buildcage/buildcage/internal/image"
)

// victim tells the test binary to be the process that gets killed: the prefix
// of the engine's names, then the image's tag and id.
const victim = "BUILDCAGE_TEST_VICTIM"

// kill -9 at any point of a build: one more run, and only the volume is left.
func TestKilledRun(t *testing.T) {
	w := newWorld(t)
	img, _ := w.options.Image()
	if _, _, err := image.Ensure(t.Context(), w.engine.Client, img); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestVictim$", "-test.v")
	cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %s %s", victim, w.engine.Prefix, img.Tag, img.IDs[0]))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "building" {
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, out)
	if err := cmd.Wait(); err == nil {
		t.Fatal("the victim lived")
	}
	if left, _ := filepath.Glob(filepath.Join(w.tmp, dirPrefix+"*")); len(left) != 1 {
		t.Fatalf("the victim left %v, want its directory", left)
	}
	w.options.Build = noBuild
	if r := Run(t.Context(), w.options); r.CageErr != nil || !r.Complete {
		t.Errorf("result %+v", r)
	}
	if _, err := w.engine.Client.VolumeInspect(t.Context(), w.engine.VolumeName(0), client.VolumeInspectOptions{}); err != nil {
		t.Errorf("the state volume: %v", err)
	}
}

// TestVictim is no test, and passes: it is the process that TestKilledRun kills.
func TestVictim(t *testing.T) {
	var prefix, tag, id string
	if _, err := fmt.Sscan(os.Getenv(victim), &prefix, &tag, &id); err != nil {
		return
	}
	img := image.Image{Tag: tag, IDs: []string{id}, Open: func() (io.ReadCloser, error) {
		return nil, errors.New("the image is gone")
	}}
	r := Run(t.Context(), Options{
		Engine:  &docker.Engine{Client: dockertest.Client(t), Prefix: prefix},
		Image:   func() (image.Image, error) { return img, nil },
		Version: "test",
		Build: func(ctx context.Context, _ Endpoint) error {
			fmt.Println("building")
			<-ctx.Done()
			return ctx.Err()
		},
	})
	t.Errorf("it lived: %+v", r)
}
