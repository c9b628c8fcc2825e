// Package dockertest gives tests a real engine and a small image that speaks
// the cage's contract. It asks for BUILDCAGE_TEST_ENGINE=1, and it proves at
// the end of a test that nothing of it is left in the engine.
package dockertest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/client"

	"github.com/buildcage/buildcage/internal/docker"
)

// Gate is the environment variable that asks for tests with an engine.
const Gate = "BUILDCAGE_TEST_ENGINE"

// Client returns a client for the engine of the environment, or skips the test.
func Client(t testing.TB) *client.Client {
	t.Helper()
	if os.Getenv(Gate) != "1" {
		t.Skipf("set %s=1 to run the tests that need a Docker engine", Gate)
	}
	api, err := client.New(client.FromEnv)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { api.Close() })
	if _, err := (&docker.Engine{Client: api}).Check(t.Context(), ""); err != nil {
		t.Fatalf("%s=1, but the engine is not usable: %v", Gate, err)
	}
	return api
}

// Engine is an engine whose names no other test uses. When the test ends,
// the volumes that it made are removed and a container that is left fails it.
func Engine(t testing.TB) *docker.Engine {
	t.Helper()
	e := &docker.Engine{Client: Client(t), Prefix: "buildcage-test-" + nonce()}
	t.Cleanup(func() { clean(t, e) })
	return e
}

// cleanTime bounds the cleaning up after one test.
const cleanTime = time.Minute

func clean(t testing.TB, e *docker.Engine) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), cleanTime)
	defer cancel()
	byName := func() client.Filters { return make(client.Filters).Add("name", e.Prefix+"-") }
	containers, err := e.Client.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: byName()})
	if err != nil {
		t.Error(err)
	}
	for _, c := range containers.Items {
		t.Errorf("container %s (%s) is left", strings.Join(c.Names, " "), c.State)
		if _, err := e.Client.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true}); err != nil {
			t.Error(err)
		}
	}
	volumes, err := e.Client.VolumeList(ctx, client.VolumeListOptions{Filters: byName()})
	if err != nil {
		t.Error(err)
	}
	for _, v := range volumes.Items {
		if _, err := e.Client.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{}); err != nil {
			t.Error(err)
		}
	}
}

func nonce() string {
	var b [6]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
