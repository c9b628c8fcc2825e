package docker_test

import (
	"strings"
	"testing"

	"github.com/buildcage/buildcage/internal/docker"
)

// An engine that can't start a process says so where HTTP/2 is expected.
func TestSessionProse(t *testing.T) {
	for first, want := range map[string]string{
		"\x00\x00\x12\x04\x00\x00\x00\x00\x00":                             "",
		"OCI runtime exec failed: exec failed: unable\x1b[31m\r\nto start": "the engine says OCI runtime exec failed: exec failed: unable[31m to start",
		"\x00\x00\x12\x04\x00\x00\x00\x00\x01 of a stream":                 "the engine says of a stream",
		"": "the cage has hung up",
	} {
		err := docker.First(first)
		if want == "" && err != nil || want != "" && (err == nil || strings.TrimSpace(err.Error()) != want) {
			t.Errorf("%q: %v, want %q", first, err, want)
		}
	}
}
