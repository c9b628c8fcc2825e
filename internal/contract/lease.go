package contract

import (
	"time"

	"github.com/buildcage/buildcage/internal/policy"
)

// Registration asks a cage that stays for a build with a policy and a record of
// its own. It is one JSON line on the standard input of CommandRegister; the
// build lasts until that input ends, or until it is sealed.
type Registration struct {
	Version int         `json:"version"` // BootVersion
	RunID   string      `json:"run_id"`
	CLI     string      `json:"cli"`
	Policy  policy.Spec `json:"policy"`
}

// Lease answers a Registration with one JSON line.
type Lease struct {
	// Token is for FlagBuild. It opens the build's own front door.
	Token    string `json:"token,omitempty"`
	BuildKit string `json:"buildkit,omitempty"` // version
	Error    string `json:"error,omitempty"`    // why there is no token
}

// Inventory is what a cage that stays says about itself.
type Inventory struct {
	PolicyDigest string    `json:"policy_digest"`
	Mode         string    `json:"mode"`
	BuildKit     string    `json:"buildkit"`
	Builds       int       `json:"builds"`        // that go on
	Total        int       `json:"total"`         // since it came up
	Since        time.Time `json:"since"`         // when it came up
	Idle         time.Time `json:"idle,omitzero"` // since when nothing builds; zero: something does
}
