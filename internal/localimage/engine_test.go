package localimage

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/dockerfile"
)

// realEngine is the engine of the environment. Unset skips; asked for but not
// there fails.
func realEngine(t *testing.T) client.APIClient {
	t.Helper()
	if os.Getenv("BUILDCAGE_TEST_ENGINE") == "" {
		t.Skip("set BUILDCAGE_TEST_ENGINE=1 to run this against the Docker engine of the environment")
	}
	c, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ping(t.Context(), client.PingOptions{NegotiateAPIVersion: true}); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRealEngine(t *testing.T) {
	api := realEngine(t)
	name := fmt.Sprintf("buildcage-test.example.com/localimage:%d", time.Now().UnixNano())
	root := archiveOf(t, entry{name: "hello", body: strings.Repeat("hello ", 1000)})
	stream, err := api.ImageImport(t.Context(), client.ImageImportSource{Source: bytes.NewReader(root), SourceName: "-"}, name,
		client.ImageImportOptions{Changes: []string{"ENV A=b", "USER 12:34", "ONBUILD RUN x", "LABEL com.buildcage.test=1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := api.ImageRemove(context.WithoutCancel(t.Context()), name, client.ImageRemoveOptions{Force: true}); err != nil {
			t.Errorf("the test image is left: %v", err)
		}
	})
	img, err := api.ImageInspect(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	native := platforms.MustParse(img.Os + "/" + img.Architecture)
	plan, err := Read([]byte("FROM "+name+"\nCOPY --from=nowhere.example.com/nothing:1 / /\n"), dockerfile.Options{Native: native})
	if err != nil {
		t.Fatal(err)
	}
	s := &Store{Engine: api, Dir: t.TempDir()}
	for range 2 {
		lease, err := s.Provide(t.Context(), plan.Refs)
		if err != nil {
			t.Fatal(err)
		}
		if len(lease.Contexts) != 1 || lease.Contexts[0].Name != name {
			t.Fatalf("contexts %+v", lease.Contexts)
		}
		checkReal(t, lease.Contexts[0].Source)
		lease.Release()
	}
}

// checkReal looks for what the import put into the image.
func checkReal(t *testing.T, source string) {
	t.Helper()
	dir, _, _ := strings.Cut(strings.TrimPrefix(source, "oci-layout://"), "@")
	var config, layer bool
	files, err := os.ReadDir(dir + "/blobs/sha256")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		dt, err := os.ReadFile(dir + "/blobs/sha256/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		config = config || bytes.Contains(dt, []byte(`"OnBuild":["RUN x"]`)) && bytes.Contains(dt, []byte(`"User":"12:34"`))
		layer = layer || bytes.Contains(dt, []byte("hello hello"))
	}
	if !config || !layer || len(files) != 3 {
		t.Errorf("configuration %v, layer %v, %d blobs", config, layer, len(files))
	}
}
