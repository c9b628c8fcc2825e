package docker

import _ "embed"

// seccompProfile is Docker's default profile (github.com/moby/profiles/seccomp)
// plus pivot_root and keyctl, which runc needs inside the cage. The profile is
// conditional: the engine resolves it against the container's capabilities, so
// CAP_SYS_ADMIN already grants mount, clone and unshare. It is a file because
// the module has it as Go data for Linux only, and the CLI runs elsewhere too;
// a test keeps file and module equal.
//
//go:embed seccomp.json
var seccompProfile string
