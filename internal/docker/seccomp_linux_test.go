package docker

import (
	"encoding/json"
	"flag"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

var update = flag.Bool("update", false, "write the golden files")

// The embedded profile is Docker's default and two system calls more.
func TestSeccompProfile(t *testing.T) {
	profile := seccomp.DefaultProfile()
	profile.Syscalls = append(profile.Syscalls, &seccomp.Syscall{
		Comment: "runc in the cage: switches root, joins a session keyring",
		LinuxSyscall: specs.LinuxSyscall{
			Names:  []string{"keyctl", "pivot_root"},
			Action: specs.ActAllow,
		},
	})
	data, err := json.MarshalIndent(profile, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	want := string(data) + "\n"
	if *update {
		if err := os.WriteFile("seccomp.json", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, seccompProfile); diff != "" {
		t.Errorf("seccomp.json differs from the module; run with -update and read the difference:\n%s", diff)
	}
}
